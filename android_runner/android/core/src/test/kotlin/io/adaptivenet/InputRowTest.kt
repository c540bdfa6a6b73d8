package io.adaptivenet

import io.adaptivenet.graph.DType
import io.adaptivenet.graph.TensorType
import io.adaptivenet.json.Json
import io.adaptivenet.json.text
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertAll
import org.junit.jupiter.api.assertThrows
import java.lang.management.ManagementFactory

/** Rows of several inputs are made and refused as in Python and C++: all read tests/vectors/inputs.json. */
class InputRowTest {
    private fun rowOf(inputs: List<Input>): InputRow {
        val numbers = inputs.sumOf { it.type.elements }.coerceAtLeast(1).toLong()
        return InputRow(inputs, TensorBuffer(TensorType(listOf(1, numbers), DType.FLOAT32)))
    }

    private fun InputRow.write(name: String, dtype: String, values: List<String>) = when (DType.labelled(dtype)) {
        DType.INT64 -> write(name, LongArray(values.size) { values[it].toLong() })
        DType.INT32 -> write(name, IntArray(values.size) { values[it].toInt() })
        DType.BOOL -> write(name, BooleanArray(values.size) { values[it] != "0" })
        else -> write(name, FloatArray(values.size) { values[it].toFloat() })
    }

    private fun inputOf(document: Json): Input {
        val shape = document["shape"].items.map { it.int.toLong() }
        return Input(document["name"].string, TensorType(shape, DType.labelled(document["dtype"].string)))
    }

    /** The row, or what was refused. */
    private fun made(inputs: List<Input>, given: List<Json>): Any? = try {
        val row = rowOf(inputs)
        given.forEach { each -> row.write(each[0].string, each[1].string, each[2].items.map { it.string }) }
        row.buffer.readFloats().toList()
    } catch (error: DataException) {
        error.message
    }

    @Test
    fun rowsAreMadeAndRefusedAsElsewhere() {
        val rows = vectors("inputs.json")["rows"].items
        assertTrue(rows.size > 40)
        assertAll(
            rows.map { each ->
                {
                    val expected = each["error"].text ?: each["row"].items.map { it.double.toFloat() }
                    val found = made(each["inputs"].items.map { inputOf(it) }, each["given"].items)
                    assertEquals(expected, found, each["name"].string)
                }
            },
        )
    }

    private val ids = Input("ids", TensorType(listOf(1, 3), DType.INT64))
    private val mask = Input("mask", TensorType(listOf(1, 2), DType.BOOL))

    @Test
    fun whatWasWrittenStaysUntilItIsWrittenAgain() {
        val row = rowOf(listOf(ids, mask))
        row.write("mask", booleanArrayOf(true, false))
        val error = assertThrows<DataException> { row.buffer }
        assertEquals("the row has no array 'ids', which the network reads; it holds mask", error.message)
        row.write("ids", longArrayOf(4, 5, 6))
        row.write("ids", intArrayOf(7, 8, 9))
        assertThrows<DataException> { row.write("ids", longArrayOf(1, 1, 1L shl 40)) }
        assertArrayEquals(floatArrayOf(7f, 8f, 9f, 1f, 0f), row.buffer.readFloats())
    }

    @Test
    fun aRowIsAsLongAsItsInputs() {
        for (numbers in listOf(1L, 4L, 6L)) {
            val error = assertThrows<DataException> {
                InputRow(listOf(ids, mask), TensorBuffer(TensorType(listOf(1, numbers), DType.FLOAT32)))
            }
            assertEquals("5 numbers of inputs do not fill a row of float32 (1, $numbers)", error.message)
        }
        assertThrows<DataException> { InputRow(listOf(mask), TensorBuffer(mask.type)) }
    }

    @Test
    fun writingAllocatesNothing() {
        val row = rowOf(listOf(ids, mask, Input("x", TensorType(listOf(1, 1000), DType.FLOAT32))))
        val (numbers, truths, floats) = Triple(LongArray(3), BooleanArray(2), FloatArray(1000))
        val threads = ManagementFactory.getThreadMXBean() as com.sun.management.ThreadMXBean
        fun allocated() = threads.getThreadAllocatedBytes(Thread.currentThread().id)
        var before = 0L
        repeat(200) { round ->
            if (round == 100) before = allocated()
            row.write("ids", numbers)
            row.write("mask", truths)
            row.write("x", floats)
            row.buffer
        }
        val each = (allocated() - before) / 100
        assertTrue(each < 10, "$each bytes were allocated for a row") // by what counts them, if at all
    }
}
