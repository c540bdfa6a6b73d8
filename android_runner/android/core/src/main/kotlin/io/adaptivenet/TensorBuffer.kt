package io.adaptivenet

import io.adaptivenet.engine.between
import io.adaptivenet.engine.whole
import io.adaptivenet.graph.DType
import io.adaptivenet.graph.Layout
import io.adaptivenet.graph.TensorType
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer

/** XNNPACK may read so many bytes past the end of an input, and ignores what it reads (docs/pack.md). */
private const val READABLE_BEHIND = 64

/**
 * Memory for an input or output of a model, outside of the Java heap, so that engines use it without a copy: row-major,
 * batch first, and of four dimensions channels second, or last with [Layout.CHANNELS_LAST]. It belongs to whoever made
 * it and may be used again for any number of inferences, not from two threads at a time. It is released when nothing
 * refers to it any more.
 */
public class TensorBuffer @JvmOverloads constructor(
    /** The shape, channels second in either layout, and what it is made of. */
    public val type: TensorType,
    layout: Layout = Layout.CONTIGUOUS,
) {
    /** The order of the values; of other than four dimensions there is but one. */
    public val layout: Layout = if (type.shape.size == 4) layout else Layout.CONTIGUOUS

    /** All bytes, in the order of this machine. Where its position and limit are does not matter to a model. */
    public val bytes: ByteBuffer = ByteBuffer.allocateDirect(Math.addExact(type.bytes, READABLE_BEHIND))
        .between(0, type.bytes)
        .slice()
        .order(ByteOrder.nativeOrder())

    private val inOrder by lazy(LazyThreadSafetyMode.NONE) { TensorBuffer(type) }

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

    /**
     * The same values with channels second, as they are now, for engines that know no layouts: this buffer, or where it
     * has another layout, a second one, always the same.
     */
    public fun contiguous(): TensorBuffer {
        if (layout == Layout.CONTIGUOUS) return this
        turn(bytes.whole(), inOrder.bytes.whole())
        return inOrder
    }

    private fun turn(from: ByteBuffer, to: ByteBuffer) {
        when (type.dtype.bytes) {
            1 -> forEachValue { last, second -> to.put(second, from.get(last)) }
            2 -> {
                val (shorts, turned) = from.asShortBuffer() to to.asShortBuffer()
                forEachValue { last, second -> turned.put(second, shorts.get(last)) }
            }
            4 -> {
                val (ints, turned) = from.asIntBuffer() to to.asIntBuffer()
                forEachValue { last, second -> turned.put(second, ints.get(last)) }
            }
            else -> {
                val (longs, turned) = from.asLongBuffer() to to.asLongBuffer()
                forEachValue { last, second -> turned.put(second, longs.get(last)) }
            }
        }
    }

    /** Where each value lies with channels last, and where with channels second. */
    private inline fun forEachValue(move: (Int, Int) -> Unit) {
        val (images, channels, height, width) = type.shape.map { it.toInt() }
        val pixels = height * width
        for (image in 0 until images) {
            val start = image * channels * pixels
            for (channel in 0 until channels) {
                for (pixel in 0 until pixels) move(start + pixel * channels + channel, start + channel * pixels + pixel)
            }
        }
    }

    private fun requireCount(count: Int) {
        if (count != type.elements) throw DataException("$count values do not fill a buffer of $type")
    }
}
