package io.adaptivenet.executorch

import io.adaptivenet.DeviceException
import io.adaptivenet.TensorBuffer
import io.adaptivenet.engine.Feature
import io.adaptivenet.engine.whole
import io.adaptivenet.graph.DType
import io.adaptivenet.graph.Layout
import io.adaptivenet.graph.TensorType
import org.pytorch.executorch.Tensor
import java.nio.ByteBuffer

/** Direct memory as a tensor, without a copy. The Java API knows nothing of layouts: shapes are always (n, c, h, w). */
internal fun tensorOver(type: TensorType, bytes: ByteBuffer): Tensor {
    val memory = bytes.whole()
    val shape = type.shape.toLongArray()
    return when (type.dtype) {
        DType.FLOAT32 -> Tensor.fromBlob(memory.asFloatBuffer(), shape)
        DType.INT32 -> Tensor.fromBlob(memory.asIntBuffer(), shape)
        DType.INT64 -> Tensor.fromBlob(memory.asLongBuffer(), shape)
        DType.INT8 -> Tensor.fromBlob(memory, shape)
        DType.UINT8 -> Tensor.fromBlobUnsigned(memory, shape)
        DType.FLOAT16, DType.BFLOAT16, DType.BOOL ->
            throw DeviceException("ExecuTorch's Java API has no ${type.dtype.label}; export the pack with other types")
    }
}

/** A tensor in the memory of a program, or in a [buffer]; its bytes lie in [layout]. */
internal class TensorFeature(
    val type: TensorType,
    val layout: Layout,
    val tensor: Tensor,
    val buffer: TensorBuffer?,
) : Feature {
    override fun close(): Unit = Unit

    /** Copies what it holds to [target]: as it is, or each element from where [order] says that it lies here. */
    fun copyTo(target: TensorBuffer, order: IntArray?) {
        val memory = target.bytes.whole()
        when (type.dtype) {
            DType.FLOAT32 -> {
                val (from, to) = tensor.dataAsFloatArray to memory.asFloatBuffer()
                if (order == null) to.put(from) else order.forEach { to.put(from[it]) }
            }
            DType.INT32 -> {
                val (from, to) = tensor.dataAsIntArray to memory.asIntBuffer()
                if (order == null) to.put(from) else order.forEach { to.put(from[it]) }
            }
            DType.INT64 -> {
                val (from, to) = tensor.dataAsLongArray to memory.asLongBuffer()
                if (order == null) to.put(from) else order.forEach { to.put(from[it]) }
            }
            else -> {
                val from = if (type.dtype == DType.INT8) tensor.dataAsByteArray else tensor.dataAsUnsignedByteArray
                if (order == null) memory.put(from) else order.forEach { memory.put(from[it]) }
            }
        }
    }
}

/**
 * For each element of a tensor in the layout [wanted], where it lies in the [given] one; null where both are the same.
 */
internal fun orderOf(type: TensorType, given: Layout, wanted: Layout): IntArray? {
    if (wanted == given || type.shape.size != 4) return null
    val (channels, height, width) = type.shape.drop(1).map { it.toInt() }
    val pixels = height * width
    // An image of (a, b) elements becomes one of (b, a).
    val (a, b) = if (wanted == Layout.CHANNELS_LAST) channels to pixels else pixels to channels
    return IntArray(type.elements) { at ->
        val inImage = at % (a * b)
        at - inImage + (inImage % a) * b + inImage / a
    }
}
