package io.adaptivenet.testing

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.Options
import java.io.File
import kotlin.math.abs
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.double
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.fail

/** A pack that tests/app_packs.py made, with what Python answers for every subnet of its profile's front. */
class Packed(name: String, engine: String, private val backend: String) {
    val folder = File(System.getProperty("adaptivenet.packs"), "$name/pack")
    val profile = File(folder.parentFile, "$engine.json")
    val subnets: List<List<String>>
    val inputs: List<FloatArray>

    /** By the index of the subnet, then by that of the input. */
    val outputs: List<List<FloatArray>>

    init {
        check(profile.isFile) { "$profile is missing: make app writes it" }
        val answers = Json.parseToJsonElement(File(folder.parentFile, "$engine-answers.json").readText()).jsonObject
        fun list(name: String) = answers.getValue(name).jsonArray
        subnets = list("subnets").map { subnet -> subnet.jsonArray.map { it.jsonPrimitive.content } }
        inputs = list("inputs").map { floats(it) }
        outputs = list("outputs").map { each -> each.jsonArray.map { floats(it) } }
    }

    private fun floats(values: JsonElement) =
        (values as JsonArray).map { it.jsonPrimitive.double.toFloat() }.toFloatArray()

    fun open(options: Options = Options()): AdaptiveModel = AdaptiveModel.create(folder, profile, options)

    /** A copy that may be damaged. */
    fun copyTo(other: File): File = other.also { folder.copyRecursively(it) }

    /** The file of a block's program. */
    fun blobOf(block: String, pack: File = folder): File {
        val manifest = Json.parseToJsonElement(File(pack, "manifest.json").readText()).jsonObject
        val found = manifest.getValue("blocks").jsonArray.map { it.jsonObject }
            .first { it.getValue("name").jsonPrimitive.content == block }
        val artifact = found.getValue("artifacts").jsonObject.getValue(backend).jsonObject
        return File(pack, artifact.getValue("file").jsonPrimitive.content)
    }
}

/** What a model answers, in buffers of its own. */
fun AdaptiveModel.answer(input: FloatArray): FloatArray {
    val (from, to) = createInputBuffer() to createOutputBuffer()
    from.write(input)
    run(from, to)
    return to.readFloats()
}

fun isClose(expected: FloatArray, found: FloatArray): Boolean =
    expected.size == found.size && expected.indices.all { abs(expected[it] - found[it]) <= 1e-5f }

fun assertClose(expected: FloatArray, found: FloatArray, what: String) {
    if (!isClose(expected, found)) fail<Unit>("$what: expected ${expected.take(5)}, found ${found.take(5)}")
}
