package io.adaptivenet.json

import java.math.BigDecimal
import java.math.MathContext
import java.math.RoundingMode

/**
 * Canonical JSON, as docs/pack.md defines it: what a manifest's digest is taken of. Fields are sorted by code point,
 * nothing is escaped that need not be, and numbers are written as Python writes them.
 */
internal fun canonicalJson(value: Json): String = StringBuilder().also { write(value, it) }.toString()

private fun write(value: Json, out: StringBuilder) {
    when (value) {
        Json.Null -> out.append("null")
        is Json.Flag -> out.append(value.value)
        is Json.Whole -> out.append(value.value)
        is Json.Decimal -> writeDouble(value.value, out)
        is Json.Text -> writeString(value.value, out)
        is Json.Items -> {
            out.append('[')
            value.values.forEachIndexed { at, each ->
                if (at > 0) out.append(',')
                write(each, out)
            }
            out.append(']')
        }
        is Json.Fields -> {
            out.append('{')
            var separator = ""
            for ((key, field) in value.values) {
                out.append(separator)
                separator = ","
                writeString(key, out)
                out.append(':')
                write(field, out)
            }
            out.append('}')
        }
    }
}

private fun writeString(text: String, out: StringBuilder) {
    out.append('"')
    for (character in text) {
        when (character) {
            '"' -> out.append("\\\"")
            '\\' -> out.append("\\\\")
            '\b' -> out.append("\\b")
            '\t' -> out.append("\\t")
            '\n' -> out.append("\\n")
            '\u000C' -> out.append("\\f")
            '\r' -> out.append("\\r")
            else -> if (character < ' ') out.append("\\u00%02x".format(character.code)) else out.append(character)
        }
    }
    out.append('"')
}

private fun writeDouble(value: Double, out: StringBuilder) {
    if (value < 0 || (value == 0.0 && 1 / value < 0)) out.append('-')
    if (value == 0.0) {
        out.append("0.0")
        return
    }
    val shortest = shortest(kotlin.math.abs(value))
    val digits = shortest.unscaledValue().toString()
    val exponent = digits.length - 1 - shortest.scale()
    when {
        exponent < -4 || exponent >= 16 -> {
            out.append(digits[0])
            if (digits.length > 1) out.append('.').append(digits, 1, digits.length)
            out.append(if (exponent < 0) "e-" else "e+")
            out.append(kotlin.math.abs(exponent).toString().padStart(2, '0'))
        }
        exponent < 0 -> out.append("0.").append("0".repeat(-exponent - 1)).append(digits)
        else -> {
            val padded = digits.padEnd(exponent + 2, '0')
            out.append(padded, 0, exponent + 1).append('.').append(padded, exponent + 1, padded.length)
        }
    }
}

/**
 * The decimal with the fewest digits that reads back as [value], which is above 0; of several, the one that is nearest
 * to it. `Double.toString` gives more digits than that before Java 19, and on Android.
 */
private fun shortest(value: Double): BigDecimal {
    val exact = BigDecimal(value)
    fun withDigits(digits: Int): BigDecimal? =
        sequenceOf(RoundingMode.HALF_EVEN, RoundingMode.FLOOR, RoundingMode.CEILING)
            .map { exact.round(MathContext(digits, it)) }
            .firstOrNull { it.toDouble() == value } // the nearest, if it reads back as the same double
    // What Java gives reads back; nearly always no shorter decimal does.
    var digits = BigDecimal(value.toString()).stripTrailingZeros().precision().coerceAtMost(17)
    while (digits > 1 && withDigits(digits - 1) != null) digits--
    return (withDigits(digits) ?: exact).stripTrailingZeros()
}
