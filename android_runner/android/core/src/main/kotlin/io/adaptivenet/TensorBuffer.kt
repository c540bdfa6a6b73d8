package io.adaptivenet

import io.adaptivenet.engine.between
import io.adaptivenet.engine.whole
import io.adaptivenet.graph.DType
import io.adaptivenet.graph.TensorType
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer

/** XNNPACK may read so many bytes past the end of an input, and ignores what it reads (docs/pack.md). */
private const val READABLE_BEHIND = 64

/**
 * Memory for an input or output of a model, outside of the Java heap, so that engines use it without a copy: row-major,
 * batch first, channels second. It belongs to whoever made it and may be used again for any number of inferences, not
 * from two threads at a time. It is released when nothing refers to it any more.
 */
public class TensorBuffer(
    /** The shape, and what it is made of. */
    public val type: TensorType,
) {
    /** All bytes, in the order of this machine. Where its position and limit are does not matter to a model. */
    public val bytes: ByteBuffer = ByteBuffer.allocateDirect(Math.addExact(type.bytes, READABLE_BEHIND))
        .between(0, type.bytes)
        .slice()
        .order(ByteOrder.nativeOrder())

    /** The same memory as floats. Throws [DataException] unless the type is float32. */
    public val floats: FloatBuffer
        get() {
            if (type.dtype != DType.FLOAT32) throw DataException("a buffer of $type holds no float32")
            return bytes.whole().asFloatBuffer()
        }

    /** Fills the buffer. Throws [DataException] for another number of values than it holds, or another type. */
    public fun write(values: FloatArray) {
        requireCount(values.size)
        floats.put(values)
    }

    /** A copy of what it holds. Throws [DataException] unless the type is float32. */
    public fun readFloats(): FloatArray = FloatArray(type.elements).also { floats.get(it) }

    private fun requireCount(count: Int) {
        if (count != type.elements) throw DataException("$count values do not fill a buffer of $type")
    }
}
