package io.adaptivenet.json

import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction
import java.util.TreeMap

private const val LEVELS = 64
private const val WHOLE_LIMIT = 1L shl 53

/** What is wrong with a text that is no JSON as this project reads it, for the end of a sentence. */
internal class JsonException(message: String) : Exception(message)

/**
 * The value in [bytes], which are UTF-8. Throws [JsonException] for what other readers could read differently: a byte
 * order mark, a key twice in one object, more than 64 levels, a number that is no finite double, and a whole number
 * that is not strictly between -2^53 and 2^53. "-0" is the whole number 0.
 */
internal fun parseJson(bytes: ByteArray): Json {
    val mark = byteArrayOf(0xEF.toByte(), 0xBB.toByte(), 0xBF.toByte())
    if (bytes.size >= mark.size && mark.indices.all { bytes[it] == mark[it] }) {
        throw JsonException("begins with a byte order mark")
    }
    if (bytes.any { it == 0.toByte() }) throw JsonException("a NUL byte")
    val decoder = Charsets.UTF_8.newDecoder()
        .onMalformedInput(CodingErrorAction.REPORT)
        .onUnmappableCharacter(CodingErrorAction.REPORT)
    val text = try {
        decoder.decode(ByteBuffer.wrap(bytes)).toString()
    } catch (_: CharacterCodingException) {
        throw JsonException("it is not UTF-8")
    }
    return JsonReader(text).document()
}

private class JsonReader(private val text: String) {
    private var at = 0

    fun document(): Json {
        val value = value(0)
        skipSpace()
        if (at < text.length) refuse("something follows the value")
        return value
    }

    private fun refuse(what: String): Nothing = throw JsonException("$what at character ${at + 1}")

    private fun skipSpace() {
        while (at < text.length && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t')) at++
    }

    private fun value(level: Int): Json {
        skipSpace()
        if (at == text.length) refuse("a value is missing")
        return when (val first = text[at]) {
            '{' -> fields(deeper(level))
            '[' -> items(deeper(level))
            '"' -> Json.Text(string())
            't' -> word("true", Json.Flag(true))
            'f' -> word("false", Json.Flag(false))
            'n' -> word("null", Json.Null)
            else -> if (first == '-' || first in '0'..'9') number() else refuse("a value is missing")
        }
    }

    private fun deeper(level: Int): Int {
        if (level == LEVELS) throw JsonException("more than $LEVELS levels")
        return level + 1
    }

    private fun word(word: String, value: Json): Json {
        if (!text.startsWith(word, at)) refuse("a value is missing")
        at += word.length
        return value
    }

    /** Whether another entry follows; takes what stands between two, or the closing one. */
    private fun hasNext(isFirst: Boolean, end: Char): Boolean {
        skipSpace()
        if (at < text.length && text[at] == end) {
            at++
            return false
        }
        if (!isFirst) {
            if (at == text.length || text[at] != ',') refuse("',' or '$end' is missing")
            at++
        }
        return true
    }

    private fun items(level: Int): Json {
        at++
        val values = ArrayList<Json>()
        while (hasNext(values.isEmpty(), ']')) values += value(level)
        return Json.Items(values)
    }

    private fun fields(level: Int): Json {
        at++
        val values = TreeMap<String, Json>(ByCodePoint)
        while (hasNext(values.isEmpty(), '}')) {
            skipSpace()
            if (at == text.length || text[at] != '"') refuse("a key is missing")
            val key = string()
            if (key in values) throw JsonException("the key ${quote(key)} twice in one object")
            skipSpace()
            if (at == text.length || text[at] != ':') refuse("':' is missing")
            at++
            values[key] = value(level)
        }
        return Json.Fields(values)
    }

    private fun string(): String {
        val found = StringBuilder()
        at++
        while (true) {
            if (at == text.length) refuse("a string has no end")
            val next = text[at++]
            when {
                next == '"' -> break
                next == '\\' -> found.append(escaped())
                next < ' ' -> refuse("a control character in a string")
                else -> found.append(next)
            }
        }
        requirePairs(found)
        return found.toString()
    }

    private fun escaped(): Char {
        if (at == text.length) refuse("a string has no end")
        return when (text[at++]) {
            '"' -> '"'
            '\\' -> '\\'
            '/' -> '/'
            'b' -> '\b'
            'f' -> '\u000C'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                val digits = text.substring(at, minOf(at + 4, text.length))
                if (digits.length < 4 || !digits.all { it in '0'..'9' || it in 'a'..'f' || it in 'A'..'F' }) {
                    refuse("\\u without four digits")
                }
                at += 4
                digits.toInt(16).toChar()
            }
            else -> refuse("an escape that JSON does not have")
        }
    }

    private fun requirePairs(found: CharSequence) {
        var index = 0
        while (index < found.length) {
            if (found[index].isSurrogate()) {
                val isPair = index + 1 < found.length && Character.isSurrogatePair(found[index], found[index + 1])
                if (!isPair) refuse("half of a surrogate pair")
                index++
            }
            index++
        }
    }

    private fun number(): Json {
        val begin = at
        if (text[at] == '-') at++
        if (at < text.length && text[at] == '0') at++ else digits()
        var isWhole = true
        if (at < text.length && text[at] == '.') {
            isWhole = false
            at++
            digits()
        }
        if (at < text.length && (text[at] == 'e' || text[at] == 'E')) {
            isWhole = false
            at++
            if (at < text.length && (text[at] == '+' || text[at] == '-')) at++
            digits()
        }
        val written = text.substring(begin, at)
        if (isWhole) {
            val value = written.toLongOrNull() ?: refuseNumber(written)
            if (value <= -WHOLE_LIMIT || value >= WHOLE_LIMIT) refuseNumber(written)
            return Json.Whole(value)
        }
        val value = written.toDouble()
        if (value.isInfinite()) refuseNumber(written)
        return Json.Decimal(value)
    }

    private fun digits() {
        val begin = at
        while (at < text.length && text[at] in '0'..'9') at++
        if (at == begin) refuse("a digit is missing")
    }

    private fun refuseNumber(written: String): Nothing = throw JsonException(
        "the number ${quote(written)}; numbers are finite, whole ones between -2^53 and 2^53",
    )
}
