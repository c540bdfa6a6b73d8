package io.adaptivenet.bundle

import io.adaptivenet.PackException
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class BundleIndexTest {
    private val digest = "0123456789abcdef".repeat(4)

    private fun file(path: String, bytes: String = "5") = """{"path": "$path", "bytes": $bytes, "sha256": "$digest"}"""

    private fun profile(soc: String?, file: String) =
        """{"soc": ${soc?.let { "\"$it\"" }}, "file": "$file", "device": "a phone"}"""

    private fun index(
        version: String = "1",
        name: String = "tiny",
        default: String = "profiles/default.json",
        profiles: List<String> = listOf(profile(null, "profiles/default.json")),
        files: List<String> = listOf(file("manifest.json"), file("profiles/default.json")),
    ) = """{"format": "adaptivenet-bundle", "version": $version, "name": "$name", "pack": "$digest", "backend": "onnx",
        "bytes": 10, "default": "$default", "profiles": [${profiles.joinToString()}], "files": [${files.joinToString()}]}"""

    private fun parse(text: String) = BundleIndex.parse(text.toByteArray())

    private fun refusal(text: String) = assertThrows(PackException::class.java) { parse(text) }.message.orEmpty()

    private fun of(vararg socs: String?): BundleIndex {
        val files = socs.indices.map { "profiles/$it.json" }
        return parse(
            index(
                default = files.first(),
                profiles = socs.mapIndexed { at, soc -> profile(soc, files[at]) },
                files = listOf(file("manifest.json")) + files.map { file(it) },
            ),
        )
    }

    @Test
    fun `an index says what is there`() {
        val read = parse(index())
        assertEquals("tiny", read.name)
        assertEquals(10, read.bytes)
        assertEquals(listOf("manifest.json", "profiles/default.json"), read.files.map { it.path })
        assertEquals(64, read.digest.length)
        assertTrue(parse(index() + " ").digest != read.digest)
    }

    @Test
    fun `a device takes the profile of its own chip, else of its series, else the default`() {
        val index = of(null, "SM8450", "SM8475", "MT6983Z/CZA", "s5e9925")
        fun taken(soc: String?) = index.profileFor(soc).soc
        assertEquals("SM8475", taken("SM8475"))
        assertEquals("SM8450", taken("sm8450 "))
        assertEquals("SM8475", taken("SM8477"))
        assertEquals("MT6983Z/CZA", taken("MT6985"))
        assertEquals("s5e9925", taken("s5e9935"))
        assertEquals(null, taken("SM7325"))
        assertEquals(null, taken("SM8550")) // another series
        assertEquals(null, taken("gs201"))
        assertEquals(null, taken(null))
        assertEquals("gs101", of("gs101", "SM8450").profileFor("Kirin 9000").soc)
    }

    @Test
    fun `what leads out of the folder or does not fit together is refused`() {
        val cases = mapOf(
            "[]" to "does not say \"format\"",
            "{" to "cannot be read as JSON",
            index(version = "2") to "is of version 2, but this library reads 1",
            index(name = "../x") to "'../x' is no name of a bundle",
            index(default = "profiles/other.json") to "is not its first profile",
            index(profiles = emptyList()) to "is not its first profile",
            index(profiles = listOf(profile(null, "profiles/x.json"))) to "'profiles/x.json' is not among its files",
            index(files = listOf(file("manifest.json"))) to "is not among its files",
            index(files = listOf(file("profiles/default.json"))) to "it has no manifest.json",
            index(files = List(2) { file("manifest.json") }) to "'manifest.json' is there twice",
            index(files = listOf(file("manifest.json", "-1"))) to "'manifest.json' has -1 bytes",
            index(files = listOf(file("manifest.json", "1.0"))) to "'manifest.json' has 1.0 bytes",
        )
        for ((text, message) in cases) assertTrue(message in refusal(text), "$message: ${refusal(text)}")
        val paths =
            listOf("../x", "/x", "blobs/../x", "blobs/", "blobs/.x", "blobs/a/b", "x", "bundle.json", "blobs/a\\u0000")
        for (path in paths) {
            assertTrue("is no path of a bundle's file" in refusal(index(files = listOf(file(path)))), path)
        }
        assertTrue("no digest" in refusal(index().replace(digest, "x")))
    }
}
