package io.adaptivenet.onnxruntime

import io.adaptivenet.PackException
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.assertThrows
import java.io.File
import java.nio.ByteBuffer

/** Programs are joined as in Python and C++: all replay tests/vectors/onnx_assembly.json. */
class OnnxAssemblyTest {
    private val vectors = Json.parseToJsonElement(
        File(System.getProperty("adaptivenet.vectors"), "onnx_assembly.json").readText(),
    ).jsonArray.map { it.jsonObject }

    private fun bytes(hexadecimal: String) = hexadecimal.chunked(2).map { it.toInt(16).toByte() }.toByteArray()

    private fun JsonObject.string(name: String) = getValue(name).jsonPrimitive.content

    private fun partsOf(example: JsonObject) = example.getValue("parts").jsonArray.map { it.jsonObject }.map { part ->
        OnnxPart(
            part.string("what"),
            ByteBuffer.wrap(bytes(part.string("data"))),
            part.getValue("takes").jsonArray.map { it.jsonPrimitive.int },
            part.getValue("gives").jsonPrimitive.int,
        )
    }

    @TestFactory
    fun joinsAndRefusesAsTheOthersDo(): List<DynamicTest> {
        assertTrue(vectors.size >= 10)
        return vectors.map { example ->
            dynamicTest(example.string("name")) {
                if ("model" in example) {
                    assertEquals(ByteBuffer.wrap(bytes(example.string("model"))), assembleOnnx(partsOf(example)))
                } else {
                    val error = assertThrows<PackException> { assembleOnnx(partsOf(example)) }
                    assertEquals(example.string("error"), error.message)
                }
            }
        }
    }

    @Test
    fun refusesEveryProgramThatIsCutOffOrJoinsIt() {
        val part = partsOf(vectors.first()).first()
        for (size in 0 until part.data.remaining()) {
            val cut = OnnxPart("block 'a'", part.data.duplicate().apply { limit(size) }, listOf(0), 1)
            try {
                assembleOnnx(listOf(cut)) // what stands behind the graph may be missing
            } catch (error: PackException) {
                assertTrue(error.message.orEmpty().startsWith("block 'a' is no ONNX program"), error.message)
            }
        }
    }
}
