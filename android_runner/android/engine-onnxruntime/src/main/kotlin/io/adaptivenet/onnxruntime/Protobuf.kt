package io.adaptivenet.onnxruntime

import io.adaptivenet.engine.between
import io.adaptivenet.engine.skip
import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer

internal const val VARINT = 0
internal const val FIXED64 = 1
internal const val BYTES = 2
internal const val FIXED32 = 5
private const val LONGEST_VARINT = 10

/** What is wrong with a message, for the middle of a sentence. */
internal class ProtobufException(message: String) : Exception(message)

/** A field of a message: [whole] with its tag, and its [content], or its [value] when it is a number. */
internal class ProtobufField(
    val number: Long,
    val wire: Int,
    val whole: ByteBuffer,
    val content: ByteBuffer,
    val value: Long,
)

/** A number of up to 64 bits, which is taken from the buffer. */
private fun ByteBuffer.readVarint(): Long {
    var value = 0L
    for (count in 0 until minOf(LONGEST_VARINT, remaining())) {
        val byte = get().toInt()
        value = value or ((byte.toLong() and 0x7f) shl (7 * count))
        if (byte >= 0) return value
    }
    throw ProtobufException("a number has no end")
}

/** Calls [use] for each of the outermost fields of a message. Throws [ProtobufException]. */
internal inline fun forFields(message: ByteBuffer, use: (ProtobufField) -> Unit) {
    val rest = message.duplicate()
    while (rest.hasRemaining()) use(nextField(rest))
}

internal fun nextField(rest: ByteBuffer): ProtobufField {
    val begin = rest.position()
    val tag = rest.readVarint()
    val number = tag ushr 3
    val wire = (tag and 7).toInt()
    val content = rest.position()
    var value = 0L
    val size = when (wire) {
        VARINT -> {
            value = rest.readVarint()
            0
        }
        BYTES -> rest.readVarint()
        FIXED64 -> 8
        FIXED32 -> 4
        else -> throw ProtobufException("it has a field of type $wire")
    }
    if (number == 0L || size < 0 || size > rest.remaining()) throw ProtobufException("a field has no number or no end")
    val from = if (wire == VARINT) content else rest.position()
    rest.skip(size.toInt())
    return ProtobufField(number, wire, rest.between(begin, rest.position()), rest.between(from, rest.position()), value)
}

/** The bytes of a name, one character each: two names are the same text exactly when they are the same bytes. */
internal val ByteBuffer.name: String
    get() = ByteArray(remaining()).also { duplicate().get(it) }.toString(Charsets.ISO_8859_1)

internal fun ByteArrayOutputStream.writeVarint(value: Long) {
    var left = value
    while (left ushr 7 != 0L) {
        write(((left and 0x7f) or 0x80).toInt())
        left = left ushr 7
    }
    write(left.toInt())
}

internal fun ByteArrayOutputStream.writeTag(number: Int, wire: Int): Unit =
    writeVarint((number.toLong() shl 3) or wire.toLong())

/** What stands before the content of a field of so many bytes. */
internal fun head(number: Int, size: Long): ByteBuffer {
    val out = ByteArrayOutputStream()
    out.writeTag(number, BYTES)
    out.writeVarint(size)
    return ByteBuffer.wrap(out.toByteArray())
}
