package io.adaptivenet.calibration

import io.adaptivenet.DeviceException
import io.adaptivenet.json.Json
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import java.io.File

/** What is left of a calibration when its process ends. */
class JournalTest {
    @TempDir
    lateinit var folder: File

    private val file by lazy { File(folder, "home/a.journal") }
    private val header = Json.Fields(mapOf("of" to Json.Text("this")))

    private fun <T> open(header: Json = this.header, work: (Journal) -> T): T = Journal(file, header, 2).use(work)

    private fun visits(journal: Journal) = listOf(0, 1).map { journal.timings.visits(it) }

    private fun begin() = open {
        it.visited(0, 0, listOf(1.0, 2.0), 0.5)
        it.visited(1, 0, listOf(3.0), 0.25)
        it.failed(1, 1, "it \"failed\"", 0.25)
    }

    @Test
    fun anotherProcessGoesOn() {
        begin()
        open {
            assertEquals(listOf(1, 1), visits(it))
            assertEquals(1.0, it.seconds)
            it.failed(1, 2, "again", 1.0)
            it.visited(0, 1, listOf(1.0), 1.0)
        }
        open {
            assertEquals(listOf(2, 1), visits(it))
            assertEquals("again", it.timings.failure(1))
            assertEquals(3.0, it.seconds)
        }
    }

    @Test
    fun aLineThatWasCutOffIsNotThere() {
        begin()
        val whole = file.readBytes()
        val ends = whole.indices.filter { whole[it] == '\n'.code.toByte() }
        for (size in 0..whole.size) {
            file.writeBytes(whole.copyOf(size))
            val kept = ends.count { it < size } - 1 // the first is the header
            open { assertEquals(listOf(if (kept >= 1) 1 else 0, if (kept >= 2) 1 else 0), visits(it), "$size bytes") }
            open { it.visited(1, 5, listOf(1.0), 0.0) } // what follows is no part of a torn line
            open { assertTrue(it.timings.has(1, 5)) }
        }
    }

    @Test
    fun whatIsNoEntryAndAllBehindItIsNotThere() {
        begin()
        val lines = file.readLines()
        val bad = listOf(
            "[]",
            "{}",
            lines[0],
            "{\"subnet\":2,\"round\":0,\"seconds\":0.0,\"ms\":[1.0]}",
            "\u0000",
            "{\"subnet\":0,\"round\":0,\"seconds\":0.0,\"ms\":[0.0]}",
            "{\"subnet\":0,\"round\":0,\"seconds\":0.0,\"ms\":[]}",
        )
        for (line in bad) {
            file.writeText(listOf(lines[0], lines[1], line, lines[2]).joinToString("\n", postfix = "\n"))
            open { assertEquals(listOf(1, 0), visits(it), line) }
        }
    }

    @Test
    fun aJournalOfSomethingElseIsBegunAnew() {
        begin()
        open(Json.Fields(mapOf("of" to Json.Text("that")))) { assertEquals(listOf(0, 0), visits(it)) }
        open { assertEquals(listOf(0, 0), visits(it)) }
    }

    @Test
    fun oneJobAtATimeHasIt() {
        open { journal ->
            val error = assertThrows<DeviceException> { open { } }
            assertTrue("another job calibrates already" in error.message.orEmpty(), error.message)
            journal.visited(0, 0, listOf(1.0), 0.0)
            journal.delete()
        }
        assertFalse(file.exists())
        file.parentFile.deleteRecursively()
        file.parentFile.writeText("no folder")
        assertThrows<DeviceException> { open { } }
    }
}
