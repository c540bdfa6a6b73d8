package io.adaptivenet

import io.adaptivenet.graph.DType
import io.adaptivenet.graph.Layout
import io.adaptivenet.graph.TensorType
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertSame
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

/** Buffers hold tensors of their type, channels second or last. */
class TensorBufferTest {
    @Test
    fun buffersHoldWhatTheirTypeSays() {
        val buffer = TensorBuffer(TensorType(listOf(1, 3), DType.FLOAT32))
        assertEquals(12, buffer.bytes.capacity())
        assertEquals(true, buffer.bytes.isDirect)
        buffer.write(floatArrayOf(1f, -2f, 0.5f))
        assertArrayEquals(floatArrayOf(1f, -2f, 0.5f), buffer.readFloats())
        assertEquals(-2f, buffer.bytes.getFloat(4))
        val error = assertThrows<DataException> { buffer.write(floatArrayOf(1f)) }
        assertEquals("1 values do not fill a buffer of float32 (1, 3)", error.message)
        val whole = TensorBuffer(TensorType(listOf(4), DType.INT64))
        assertEquals("a buffer of int64 (4,) holds no float32", assertThrows<DataException> { whole.floats }.message)
        assertThrows<ArithmeticException> { TensorBuffer(TensorType(List(8) { 2147483647L }, DType.BOOL)) }
    }

    @Test
    fun channelsThatComeLastAreTurned() {
        for (dtype in DType.entries) {
            val type = TensorType(listOf(2, 3, 4, 5), dtype)
            val last = TensorBuffer(type, Layout.CHANNELS_LAST)
            // The second time into the memory of the first.
            repeat(2) { round ->
                for (at in 0 until type.bytes) last.bytes.put(at, (at * 7 + round).toByte())
                val second = last.contiguous()
                assertSame(second, last.contiguous())
                assertEquals(Layout.CONTIGUOUS, second.layout)
                for (at in 0 until type.elements) {
                    val (image, channel, pixel) = Triple(at / 60, at / 20 % 3, at % 20)
                    val there = (image * 20 + pixel) * 3 + channel
                    for (byte in 0 until dtype.bytes) {
                        val expected = last.bytes.get(there * dtype.bytes + byte)
                        assertEquals(expected, second.bytes.get(at * dtype.bytes + byte), "${dtype.label} $at")
                    }
                }
                val back = TensorBuffer(type, Layout.CHANNELS_LAST)
                back.writeContiguous { it.bytes.put(second.bytes.duplicate()) }
                assertEquals(last.bytes, back.bytes, dtype.label)
            }
        }
    }

    @Test
    fun otherTensorsHaveOneOrder() {
        val row = TensorBuffer(TensorType(listOf(1, 6), DType.FLOAT32), Layout.CHANNELS_LAST)
        assertEquals(Layout.CONTIGUOUS, row.layout)
        assertSame(row, row.contiguous())
        row.writeContiguous { assertSame(row, it) }
    }
}
