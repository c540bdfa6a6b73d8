package io.adaptivenet.pack

import io.adaptivenet.PackException
import io.adaptivenet.get
import io.adaptivenet.items
import io.adaptivenet.json.ByCodePoint
import io.adaptivenet.json.Json
import io.adaptivenet.json.JsonException
import io.adaptivenet.json.canonicalJson
import io.adaptivenet.json.parseJson
import io.adaptivenet.json.text
import io.adaptivenet.string
import io.adaptivenet.vectors
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertAll
import java.security.MessageDigest
import java.util.TreeMap

/** Manifests are accepted and refused as in Python and C++, with C++'s words: all read tests/vectors/readers.json. */
class ReadersTest {
    private val vectors = vectors("readers.json")

    private fun bytes(hexadecimal: String) = hexadecimal.chunked(2).map { it.toInt(16).toByte() }.toByteArray()

    private fun sha256(text: String) = hexadecimal(MessageDigest.getInstance("SHA-256").digest(text.toByteArray()))

    /** A document with another value at a place, or without what is there. */
    private fun changed(document: Json, place: List<Json>, value: Json?): Json {
        val key = place.firstOrNull() ?: return checkNotNull(value)
        val rest = place.drop(1)
        return when (document) {
            is Json.Fields -> {
                val name = key.string
                val values = TreeMap<String, Json>(ByCodePoint).apply { putAll(document.values) }
                if (rest.isEmpty() && value == null) {
                    values.remove(name)
                } else {
                    values[name] = changed(values[name] ?: Json.Null, rest, value)
                }
                Json.Fields(values)
            }
            is Json.Items -> {
                val at = (key as Json.Whole).value.toInt()
                Json.Items(document.values.toMutableList().also { it[at] = changed(it[at], rest, value) })
            }
            else -> error("nothing lies below ${place.size} steps")
        }
    }

    private fun signed(document: Json): ByteArray {
        val digest = Json.Text(sha256(canonicalJson(document)))
        return canonicalJson(changed(document, listOf(Json.Text("digest")), digest)).toByteArray()
    }

    /** Where the reason is the JSON parser's own, its words differ. */
    private fun withoutParsersWords(error: String?): String? =
        if (error != null && "syntax error" in error) error.substringBefore("JSON: ") else error

    private fun errorOf(text: ByteArray): String? = try {
        Pack.parse(text)
        null
    } catch (error: PackException) {
        error.message
    }

    @Test
    fun manifestsAreTakenAndRefusedAsElsewhere() {
        val good = vectors["good"]
        val manifests = vectors["manifests"].items
        assertTrue(manifests.size > 400)
        assertAll(
            manifests.map { each ->
                {
                    val document = each["changes"].items.fold(good) { made, change ->
                        changed(made, change[0].items, change.items.getOrNull(1))
                    }
                    assertEquals(each["error"].text, errorOf(signed(document)), each["name"].string)
                }
            },
        )
    }

    @Test
    fun textsThatAreNoManifestsAreRefusedAsElsewhere() {
        for (each in vectors["texts"].items) {
            val expected = each["error"].text
            val found = errorOf(bytes(each["text"].string))
            if (withoutParsersWords(expected) == expected) {
                assertEquals(expected, found)
            } else {
                assertEquals(withoutParsersWords(expected), found?.substringBefore("JSON: "))
            }
        }
        val tooLarge = ByteArray(MANIFEST_LIMIT + 1) { ' '.code.toByte() }
        assertTrue("more than 16777216 bytes" in errorOf(tooLarge).orEmpty())
    }

    @Test
    fun jsonHasTheSameCanonicalFormElsewhere() {
        for (each in vectors["json"].items) {
            val text = bytes(each["text"].string)
            val found = try {
                sha256(canonicalJson(parseJson(text)))
            } catch (_: JsonException) {
                null
            }
            assertEquals(each["sha256"].text, found, text.toString(Charsets.UTF_8).take(80))
        }
    }

    @Test
    fun refusesMoreThan64Levels() {
        for (levels in listOf(65, 100_000)) {
            val said = errorOf("[".repeat(levels).toByteArray()).orEmpty()
            assertTrue("more than 64 levels" in said, said)
        }
    }

    @Test
    fun messagesAreShortAndOnOneLine() {
        val texts = listOf("[" + "9".repeat(100_000), "{\"\\n\":1,\"\\n\":2}", "\"\\x" + "y".repeat(1000))
        for (text in texts) {
            val message = errorOf(text.toByteArray()).orEmpty()
            assertTrue(message.length < 300 && '\n' !in message, message)
        }
    }
}
