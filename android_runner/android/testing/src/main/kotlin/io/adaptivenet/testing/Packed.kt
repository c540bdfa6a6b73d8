package io.adaptivenet.testing

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.DataException
import io.adaptivenet.Options
import io.adaptivenet.graph.Layout
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import java.io.File
import java.util.concurrent.atomic.AtomicBoolean

/** A pack that tests/app_packs.py made, with what Python answers for every subnet of its profile's front. */
public class Packed(name: String, engine: String, private val backend: String) {
    public val folder: File = File(System.getProperty("adaptivenet.packs"), "$name/pack")
    public val profile: File = File(folder.parentFile, "$engine.json")

    private val answers = Answers(File(folder.parentFile, "$engine-answers.json"))
    public val subnets: List<List<String>> get() = answers.subnets
    public val inputs: List<FloatArray> get() = answers.inputs
    public val outputs: List<List<FloatArray>> get() = answers.outputs

    public fun open(options: Options = Options()): AdaptiveModel = AdaptiveModel.create(folder, profile, options)

    /** A copy that may be damaged. */
    public fun copyTo(other: File): File = other.also { folder.copyRecursively(it) }

    /** The file of a block's program. */
    public fun blobOf(block: String, pack: File = folder): File {
        val manifest = Json.parseToJsonElement(File(pack, "manifest.json").readText()).jsonObject
        val found = manifest.getValue("blocks").jsonArray.map { it.jsonObject }
            .first { it.getValue("name").jsonPrimitive.content == block }
        val artifact = found.getValue("artifacts").jsonObject.getValue(backend).jsonObject
        return File(pack, artifact.getValue("file").jsonPrimitive.content)
    }

    /** Holds that every subnet of the front, loaded by name, gives what Python gives; [answer] is of an input. */
    public fun assertAnswers(answer: AdaptiveModel.(FloatArray) -> FloatArray = AdaptiveModel::answer) {
        open().use { model ->
            subnets.forEachIndexed { at, subnet ->
                model.activate(subnet)
                model.settle()
                assertEquals(subnet, model.status.subnet)
                inputs.forEachIndexed { input, values ->
                    assertClose(outputs[at][input], model.answer(values), "$subnet")
                }
            }
        }
    }

    /** Holds that a row which was not written is refused, and that inputs written by name give what Python gives. */
    public fun assertTakesInputsByName() {
        open().use { model ->
            val row = model.createInputRow()
            assertThrows(DataException::class.java) { model.run(row, model.createOutputBuffer()) }
        }
        assertAnswers { values -> answer(createInputRow().also { it.writeAll(values) }.buffer) }
    }

    /** Holds that pictures of 3 channels and 16 x 16 pixels whose channels come last give what Python gives. */
    public fun assertTakesChannelsLast() {
        val (channels, pixels) = 3 to 16 * 16
        assertAnswers { values ->
            val input = createInputBuffer(Layout.CHANNELS_LAST)
            input.write(FloatArray(values.size) { values[it % channels * pixels + it / channels] })
            answer(input)
        }
    }

    /** Holds that outputs of 2 channels and 6 x 4 pixels whose channels come last are what Python gives. */
    public fun assertGivesChannelsLast() {
        val (channels, pixels) = 2 to 6 * 4
        assertAnswers { values ->
            val output = createOutputBuffer(Layout.CHANNELS_LAST)
            run(createInputBuffer().also { it.write(values) }, output)
            val found = output.readFloats()
            FloatArray(found.size) { found[it % pixels * channels + it / pixels] }
        }
    }

    /** Infers until it is told to stop, or the model is closed, and compares; how many inferences that were. */
    public fun inferUntil(stop: AtomicBoolean, model: AdaptiveModel, input: Int): Int {
        val (from, to) = model.createInputBuffer() to model.createOutputBuffer()
        from.write(inputs[input])
        var count = 0
        while (!stop.get()) {
            val point = checkNotNull(model.run(from, to).point)
            count++
            assertClose(outputs[point][input], to.readFloats(), "point $point beside switches")
        }
        return count
    }
}
