package io.adaptivenet.graph

/** What a tensor is made of. [label] is the name in manifests, which is numpy's; [bytes] are those of one element. */
public enum class DType(public val label: String, public val bytes: Int) {
    FLOAT32("float32", 4),
    FLOAT16("float16", 2),
    BFLOAT16("bfloat16", 2),
    INT64("int64", 8),
    INT32("int32", 4),
    INT8("int8", 1),
    UINT8("uint8", 1),
    BOOL("bool", 1),
    ;

    internal companion object {
        fun labelled(label: String): DType = entries.first { it.label == label }
    }
}

/** The order of 4-D tensors in memory: (n, channels, height, width), or (n, height, width, channels). */
public enum class Layout { CONTIGUOUS, CHANNELS_LAST }

/** A tensor's shape, batch first and channels second, and what it is made of. */
public class TensorType(shape: List<Long>, public val dtype: DType) {
    public val shape: List<Long> = shape.toList()

    /** The number of elements, or null where that is 2^62 or more. */
    internal val elementsOrNull: Long?
        get() {
            var count = 1L
            for (side in shape) {
                if (count > (1L shl 62) / side) return null
                count *= side
            }
            return count
        }

    /** The number of elements. Throws [ArithmeticException] where no buffer could hold so many. */
    public val elements: Int get() = Math.toIntExact(elementsOrNull ?: throw ArithmeticException("$this is too large"))

    /** The number of bytes. Throws [ArithmeticException] where no buffer could hold so many. */
    public val bytes: Int get() = Math.multiplyExact(elements, dtype.bytes)

    override fun equals(other: Any?): Boolean = other is TensorType && shape == other.shape && dtype == other.dtype

    override fun hashCode(): Int = 31 * shape.hashCode() + dtype.hashCode()

    /** As messages show it: `float32 (1, 3, 224, 224)`. */
    override fun toString(): String = dtype.label + shape.joinToString(", ", " (", if (shape.size == 1) ",)" else ")")
}
