package io.adaptivenet.android

import io.adaptivenet.DeviceException
import io.adaptivenet.PackException
import io.adaptivenet.bundle.BundleIndex
import io.adaptivenet.pack.Pack
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import kotlin.concurrent.thread

class UnpackerTest {
    @TempDir
    lateinit var home: File

    private fun family() = File(home, "tiny").list().orEmpty().toList()

    @Test
    fun `a bundle is unpacked once, whole, under its digest`() {
        val files = unchanged()
        val first = Unpacker(home).unpack(files)
        assertEquals(contents(ASSETS), contents(first.folder))
        assertEquals(listOf(first.index.digest), family())
        assertEquals(first.index.pack, Pack.open(first.folder).digest)
        val opened = files.opened
        val second = Unpacker(home).unpack(files)
        assertEquals(first.folder, second.folder)
        assertEquals(opened + 1, files.opened, "only the index is read again")
    }

    @Test
    fun `an update takes the place of what was there, and unfinished work of a process that ended is removed`() {
        val old = Unpacker(home).unpack(unchanged()).folder
        File(home, "tiny/.${"0".repeat(64)}.part/blobs").mkdirs()
        val end = '\n'.code.toByte()
        val updated = Changed { path, content -> if (path == BundleIndex.FILE) content + end else content }
        val new = Unpacker(home).unpack(updated)
        assertEquals(listOf(new.index.digest), family())
        assertFalse(old.exists())
    }

    @Test
    fun `a bundle that is damaged leaves nothing, and what was there before serves on`() {
        val blob = { path: String -> path.startsWith("blobs/") }
        val cases = mapOf<String, (String, ByteArray) -> ByteArray?>(
            "is missing" to { path, content -> content.takeUnless { blob(path) } },
            "is damaged" to { path, content -> if (blob(path)) ByteArray(content.size) else content },
            "is damaged: it is not what bundle.json says" to
                { path, content -> if (blob(path)) content + 0 else content },
            "is damaged: it is" to { path, content -> if (blob(path)) content.copyOf(content.size - 1) else content },
            "there is no bundle: bundle.json cannot be read" to
                { path, content -> content.takeUnless { path == "bundle.json" } },
            "is not the index of a bundle" to
                { path, content -> if (path == "bundle.json") "{}".toByteArray() else content },
        )
        for ((message, change) in cases) {
            val error = assertThrows(PackException::class.java) { Unpacker(home).unpack(Changed(change)) }
            assertTrue(message in error.message.orEmpty(), error.message)
            assertTrue(family().isEmpty(), message)
        }
        val before = Unpacker(home).unpack(unchanged()).folder
        val damagedUpdate = Changed { path, content ->
            when {
                path == BundleIndex.FILE -> content + 10
                blob(path) -> null
                else -> content
            }
        }
        assertThrows(PackException::class.java) { Unpacker(home).unpack(damagedUpdate) }
        assertEquals(listOf(before.name), family())
    }

    @Test
    fun `a disk without room is named before anything is written`() {
        val files = unchanged()
        val error = assertThrows(DeviceException::class.java) { Unpacker(home) { 1_000_000 }.unpack(files) }
        assertTrue("bundle 'tiny' needs 16.8 MB to be unpacked and " in error.message.orEmpty(), error.message)
        assertTrue("has 1.0 MB free: make room" in error.message.orEmpty(), error.message)
        assertEquals(1, files.opened)
        assertTrue(family().isEmpty())
    }

    @Test
    fun `a place that cannot be written is named`() {
        val file = File(home, "file").apply { writeText("") }
        val error = assertThrows(DeviceException::class.java) { Unpacker(file).unpack(unchanged()) }
        assertTrue("bundle 'tiny' cannot be unpacked to $file" in error.message.orEmpty(), error.message)
    }

    @Test
    fun `many threads that begin at once unpack it once`() {
        val files = unchanged()
        val found = java.util.concurrent.ConcurrentHashMap.newKeySet<File>()
        List(6) { thread { found += Unpacker(home).unpack(files).folder } }.forEach { it.join() }
        assertEquals(1, found.size)
        assertEquals(6 + Unpacker.inPlace(ASSETS).index.files.size, files.opened)
    }

    @Test
    fun `a bundle in a folder is used where it lies`() {
        val bundle = Unpacker.inPlace(ASSETS)
        assertEquals(ASSETS, bundle.folder)
        assertEquals(bundle.index.pack, Pack.open(bundle.folder).digest)
        assertThrows(PackException::class.java) { Unpacker.inPlace(home) }
    }
}
