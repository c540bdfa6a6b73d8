package io.adaptivenet.pack

import io.adaptivenet.PackException
import io.adaptivenet.get
import io.adaptivenet.json.ByCodePoint
import io.adaptivenet.json.Json
import io.adaptivenet.json.canonicalJson
import io.adaptivenet.vectors
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeEach
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.io.RandomAccessFile
import java.nio.file.Files
import java.security.MessageDigest

/** What is wrong with the files of a pack is found before they are used: checks 2 and 12 to 14 of docs/pack.md. */
class PackFilesTest {
    @TempDir
    lateinit var folder: File

    private val program = "program".toByteArray()
    private val manifest get() = File(folder, "manifest.json")
    private val blobs get() = File(folder, "blobs")
    private val blob get() = File(blobs, "${sha256(program)}.onnx")

    private fun sha256(bytes: ByteArray) = hexadecimal(MessageDigest.getInstance("SHA-256").digest(bytes))

    private fun Json.with(name: String, value: Json): Json =
        Json.Fields(((this as Json.Fields).values + (name to value)).toSortedMap(ByCodePoint))

    @BeforeEach
    fun writePack() {
        val good = vectors("readers.json")["good"]
        val artifact = good["blocks"][0]["artifacts"]["onnx"]
            .with("file", Json.Text("blobs/${sha256(program)}.onnx"))
            .with("bytes", Json.Whole(program.size.toLong()))
        val first = good["blocks"][0].with("artifacts", good["blocks"][0]["artifacts"].with("onnx", artifact))
        val blocks = (good["blocks"] as Json.Items).values.drop(1)
        val document = good.with("blocks", Json.Items(listOf(first) + blocks))
        val digest = sha256(canonicalJson(document).toByteArray())
        manifest.writeText(canonicalJson(document.with("digest", Json.Text(digest))))
        blobs.mkdir()
        blob.writeBytes(program)
    }

    private fun read(): ByteArray {
        val pack = Pack.open(folder)
        val bytes = pack.read(pack.artifact("o0", "onnx"))
        return ByteArray(bytes.remaining()).also { bytes.get(it) }
    }

    private fun refusal() = assertThrows<PackException> { read() }.message.orEmpty()

    private fun assertRefused(words: String) {
        val said = refusal()
        assertTrue(words in said && '\n' !in said, said)
    }

    @Test
    fun readsPrograms() {
        val pack = Pack.open(folder)
        assertEquals("tiny", pack.name)
        assertEquals(setOf("onnx"), pack.backends)
        assertEquals(listOf("daisy", "poppy", "rose", "tulip", "violet"), pack.classes)
        assertEquals(1 / 255.0, pack.preprocessing?.scale)
        assertArrayEquals(program, read())
        val error = assertThrows<PackException> { pack.artifact("o0", "executorch") }
        assertTrue("not exported for 'executorch', only for onnx" in error.message.orEmpty())
    }

    @Test
    fun refusesOtherManifests() {
        val elsewhere = File(folder, "elsewhere").also { Files.move(manifest.toPath(), it.toPath()) }
        assertRefused("manifest.json' is missing")
        Files.createSymbolicLink(manifest.toPath(), elsewhere.toPath())
        assertRefused("is a symbolic link")
        manifest.delete()
        manifest.mkdir()
        assertRefused("is not a regular file")
    }

    @Test
    fun refusesAManifestThatFillsTheMemory() {
        RandomAccessFile(manifest, "rw").use { it.setLength(1L shl 40) } // a hole, which takes no room
        assertRefused("more than 16777216 bytes")
    }

    @Test
    fun refusesDamagedPrograms() {
        blob.writeText("prograM")
        assertRefused("is damaged: its content has SHA-256")
        blob.writeText("program ")
        assertRefused("has 8 bytes, the manifest says 7")
        blob.writeText("")
        assertRefused("has 0 bytes")
        blob.delete()
        assertRefused("is missing; copy the pack again")
        blob.mkdir()
        assertRefused("is not a regular file")
    }

    @Test
    fun followsNoLinks() {
        val elsewhere = File(folder, "elsewhere").toPath()
        Files.move(blob.toPath(), elsewhere)
        Files.createSymbolicLink(blob.toPath(), elsewhere)
        assertRefused("is a symbolic link")
        Files.delete(blob.toPath())
        Files.move(elsewhere, blob.toPath())
        Files.move(blobs.toPath(), elsewhere)
        Files.createSymbolicLink(blobs.toPath(), elsewhere)
        assertRefused("is not a folder (or a link to one)")
    }

    @Test
    fun aPackThatWasParsedAloneHasNoPrograms() {
        val pack = Pack.parse(manifest.readBytes())
        assertThrows<PackException> { pack.read(pack.artifact("o0", "onnx")) }
    }
}
