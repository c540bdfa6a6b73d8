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
 * refers to it any more. Throws [ArithmeticException] for a type of 2 GB or more.
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

    /**
     * Fills the buffer with values in the order of its [layout]. Throws [DataException] for another number of values
     * than it holds, and unless the type is float32.
     */
    public fun write(values: FloatArray) {
        requireCount(values.size)
        floats.put(values)
    }

    /** A copy of what it holds, in the order of its [layout]. Throws [DataException] unless the type is float32. */
    public fun readFloats(): FloatArray = FloatArray(type.elements).also { floats.get(it) }

    /**
     * The same values with channels second, as they are now, for engines that know no layouts: this buffer, or where it
     * has another layout, a second one, always the same.
     */
    public fun contiguous(): TensorBuffer {
        if (layout == Layout.CONTIGUOUS) return this
        turn(bytes.whole(), inOrder.bytes.whole(), toLast = false)
        return inOrder
    }

    /**
     * Lets [write] write all values with channels second, for engines that know no layouts: to this buffer, or where it
     * has another layout, to a second one, whose values are then brought here.
     */
    public fun writeContiguous(write: (TensorBuffer) -> Unit) {
        if (layout == Layout.CONTIGUOUS) return write(this)
        write(inOrder)
        turn(inOrder.bytes.whole(), bytes.whole(), toLast = true)
    }

    private fun turn(from: ByteBuffer, to: ByteBuffer, toLast: Boolean) {
        when (type.dtype.bytes) {
            1 -> forEachValue(toLast) { here, there -> to.put(there, from.get(here)) }
            2 -> {
                val (shorts, turned) = from.asShortBuffer() to to.asShortBuffer()
                forEachValue(toLast) { here, there -> turned.put(there, shorts.get(here)) }
            }
            4 -> {
                val (ints, turned) = from.asIntBuffer() to to.asIntBuffer()
                forEachValue(toLast) { here, there -> turned.put(there, ints.get(here)) }
            }
            else -> {
                val (longs, turned) = from.asLongBuffer() to to.asLongBuffer()
                forEachValue(toLast) { here, there -> turned.put(there, longs.get(here)) }
            }
        }
    }

    /** Where each value is, and where it comes to lie: from channels last to channels second, or the other way. */
    private inline fun forEachValue(toLast: Boolean, move: (Int, Int) -> Unit) {
        val (images, channels, height, width) = type.shape.map { it.toInt() }
        val (rows, columns) = if (toLast) channels to height * width else height * width to channels
        for (image in 0 until images) {
            val start = image * rows * columns
            for (row in 0 until rows) {
                for (column in 0 until columns) move(start + row * columns + column, start + column * rows + row)
            }
        }
    }

    private fun requireCount(count: Int) {
        if (count != type.elements) throw DataException("$count values do not fill a buffer of $type")
    }
}
