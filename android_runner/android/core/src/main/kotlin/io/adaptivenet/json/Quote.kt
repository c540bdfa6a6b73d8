package io.adaptivenet.json

private const val LONGEST = 80 // bytes of UTF-8, as in the runner

private fun utf8Bytes(codePoint: Int): Int = when {
    codePoint < 0x80 -> 1
    codePoint < 0x800 -> 2
    codePoint < 0x10000 -> 3
    else -> 4
}

/** Whether a character may not be printed: an escape sequence in a name could do anything to a terminal. */
internal fun isControl(codePoint: Int): Boolean = codePoint < 0x20 || codePoint in 0x7F..0x9F

private fun oneLine(text: String): String {
    val line = StringBuilder()
    var bytes = 0
    var at = 0
    while (at < text.length) {
        val next = text.codePointAt(at)
        if (bytes + utf8Bytes(next) > LONGEST) return "$line..."
        bytes += utf8Bytes(next)
        at += Character.charCount(next)
        if (isControl(next)) line.append('?') else line.appendCodePoint(next)
    }
    return line.toString()
}

/** The text for a message: in quotation marks, short, on one line. */
internal fun quote(text: String): String = "'${oneLine(text)}'"

/** A value for a message. */
internal fun shown(value: Json): String = if (value is Json.Text) quote(value.value) else oneLine(canonicalJson(value))
