package io.adaptivenet.android

import io.adaptivenet.DeviceException
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.TimeUnit

class CanaryTest {
    @TempDir
    lateinit var folder: File

    private val blocks = listOf("b0", "b1-p50")

    /** A process that tries a program which ends it, as an engine does of an instruction that the chip does not have. */
    private fun crash() {
        val java = File(System.getProperty("java.home"), "bin/java").path
        val command = listOf(java, "-Xshare:auto", "-cp", System.getProperty("java.class.path"))
        val process = ProcessBuilder(command + listOf(Crash::class.java.name, folder.path) + blocks).inheritIO().start()
        assertTrue(process.waitFor(120, TimeUnit.SECONDS))
        assertEquals(Crash.STATUS, process.exitValue())
    }

    private fun ran(canary: Canary, what: List<String> = blocks): Boolean {
        var hasRun = false
        canary.watch(what) { hasRun = true }
        return hasRun
    }

    @Test
    fun `a program that ended the process is denied at the next start, and no other one`() {
        crash()
        val canary = Canary(folder, Crash.ABOUT)
        assertEquals(listOf(blocks), canary.denied)
        val error = assertThrows(DeviceException::class.java) { ran(canary) }
        assertTrue("b0 b1-p50 ended the app when it was tried" in error.message.orEmpty(), error.message)
        assertTrue(ran(canary, listOf("b0")))
        assertEquals(listOf(blocks), Canary(folder, Crash.ABOUT).denied)
        canary.forgive()
        assertTrue(ran(Canary(folder, Crash.ABOUT)))
    }

    @Test
    fun `a new engine or system is tried anew`() {
        crash()
        assertEquals(emptyList<List<String>>(), Canary(folder, "another engine").denied)
        assertTrue(ran(Canary(folder, "another engine")))
    }

    @Test
    fun `a process that somebody ended is no crash`() {
        crash()
        assertEquals(emptyList<List<String>>(), Canary(folder, Crash.ABOUT, endedWell = { true }).denied)
        var isAsked = false
        Canary(folder, Crash.ABOUT) {
            isAsked = true
            true
        }
        assertFalse(isAsked, "where no note is left there is nothing to ask")
    }

    @Test
    fun `what another model of a living process tries is not denied`() {
        Canary(folder, "engine").watch(blocks) {
            val other = Canary(folder, "engine")
            assertEquals(emptyList<List<String>>(), other.denied)
            assertTrue(ran(other, listOf("b2")))
        }
        assertEquals(emptyList<List<String>>(), Canary(folder, "engine").denied)
    }

    @Test
    fun `what fails without ending the process is not denied, and what passed needs no note again`() {
        val canary = Canary(folder, "engine")
        assertThrows(DeviceException::class.java) { canary.watch(blocks) { throw DeviceException("no memory") } }
        assertEquals(listOf("about"), folder.list()?.toList())
        assertTrue(ran(canary))
        val noted = folder.listFiles().orEmpty().map { it.extension }.toSet()
        canary.watch(blocks) { assertEquals(noted, folder.listFiles().orEmpty().map { it.extension }.toSet()) }
        canary.watch(listOf("b2")) { assertTrue(folder.listFiles().orEmpty().any { it.extension == "trying" }) }
        assertEquals(emptyList<List<String>>(), Canary(folder, "engine").denied)
    }

    @Test
    fun `nothing is tried where it cannot be noted`() {
        val canary = Canary(folder, "engine")
        folder.deleteRecursively()
        folder.writeText("in the way")
        var hasRun = false
        assertThrows(DeviceException::class.java) { canary.watch(blocks) { hasRun = true } }
        assertFalse(hasRun)
        assertThrows(DeviceException::class.java) { Canary(folder, "engine") }
    }
}

/** Ends its process in the middle of a program's first run. */
internal object Crash {
    const val STATUS = 41
    const val ABOUT = "an engine"

    @JvmStatic
    fun main(arguments: Array<String>) {
        Canary(File(arguments[0]), ABOUT).watch(arguments.drop(1)) { Runtime.getRuntime().halt(STATUS) }
    }
}
