package io.adaptivenet.engine

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder

// Since Java 9, ByteBuffer has methods of its own for these, which return a ByteBuffer. Android has them from API 29 on
// only, so a call must name Buffer's, as it does where all that is known is a Buffer.

private fun Buffer.restrict(begin: Int, end: Int) {
    limit(end)
    position(begin)
}

/** The same memory from [begin] to [end] (exclusive), in the order of this machine; the buffer is left as it is. */
public fun ByteBuffer.between(begin: Int, end: Int): ByteBuffer =
    duplicate().order(ByteOrder.nativeOrder()).also { it.restrict(begin, end) }

/** All of the same memory, in the order of this machine; the buffer is left as it is. */
public fun ByteBuffer.whole(): ByteBuffer = between(0, capacity())

/** Goes on so many bytes. */
public fun Buffer.skip(bytes: Int) {
    position(position() + bytes)
}
