package io.adaptivenet.testing

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.InputRow
import io.adaptivenet.TensorBuffer
import io.adaptivenet.graph.DType
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.double
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Assertions.fail
import java.io.File
import kotlin.math.abs

/** What Python answers, as tests/app_packs.py and tests/app_bundle.py write it before the tests run. */
public class Answers(file: File) {
    public val subnets: List<List<String>>
    public val inputs: List<FloatArray>

    /** By the index of the subnet, then by that of the input. */
    public val outputs: List<List<FloatArray>>

    init {
        check(file.isFile) { "$file is missing: make app writes it" }
        val document = Json.parseToJsonElement(file.readText()).jsonObject
        subnets = document.getValue("subnets").jsonArray.map { each -> each.jsonArray.map { it.jsonPrimitive.content } }
        inputs = document.getValue("inputs").jsonArray.map { floats(it) }
        outputs = document.getValue("outputs").jsonArray.map { each -> each.jsonArray.map { floats(it) } }
    }

    private fun floats(values: JsonElement) = values.jsonArray.map { it.jsonPrimitive.double.toFloat() }.toFloatArray()
}

/** What a model answers to what [input] holds. */
public fun AdaptiveModel.answer(input: TensorBuffer): FloatArray =
    createOutputBuffer().also { run(input, it) }.readFloats()

/** The same, in buffers of its own. */
public fun AdaptiveModel.answer(input: FloatArray): FloatArray = answer(createInputBuffer().also { it.write(input) })

/** Writes a row that Python has made, input by input, as values of their own types. */
public fun InputRow.writeAll(values: FloatArray) {
    var start = 0
    for (input in inputs) {
        val part = values.copyOfRange(start, start + input.type.elements)
        start += part.size
        when (input.type.dtype) {
            DType.INT64 -> write(input.name, LongArray(part.size) { part[it].toLong() })
            DType.INT32 -> write(input.name, IntArray(part.size) { part[it].toInt() })
            DType.BOOL -> write(input.name, BooleanArray(part.size) { part[it] != 0f })
            else -> write(input.name, part)
        }
    }
}

public fun isClose(expected: FloatArray, found: FloatArray): Boolean =
    expected.size == found.size && expected.indices.all { abs(expected[it] - found[it]) <= 1e-5f }

public fun assertClose(expected: FloatArray, found: FloatArray, what: String) {
    if (!isClose(expected, found)) fail<Unit>("$what: expected ${expected.take(5)}, found ${found.take(5)}")
}

/** Waits until what was asked for serves, and fails when that never happens. */
public fun AdaptiveModel.settle(): Unit = assertTrue(await(60_000))
