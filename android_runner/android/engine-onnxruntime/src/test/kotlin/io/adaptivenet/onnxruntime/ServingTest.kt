package io.adaptivenet.onnxruntime

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.BudgetException
import io.adaptivenet.DataException
import io.adaptivenet.DeviceException
import io.adaptivenet.GraphException
import io.adaptivenet.LoadWatch
import io.adaptivenet.Options
import io.adaptivenet.PackException
import io.adaptivenet.ProfileException
import io.adaptivenet.Signals
import io.adaptivenet.TensorBuffer
import io.adaptivenet.graph.DType
import io.adaptivenet.graph.Layout
import io.adaptivenet.graph.TensorType
import io.adaptivenet.milliseconds
import io.adaptivenet.percent
import io.adaptivenet.testing.Packed
import io.adaptivenet.testing.answer
import io.adaptivenet.testing.assertClose
import io.adaptivenet.testing.settle
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import java.io.File

/** What a model on ONNX Runtime answers, what decides which subnet serves, and what happens when one does not load. */
class ServingTest {
    private val tiny = Packed("tiny", "onnxruntime", "onnx")

    @TempDir
    lateinit var temporary: File

    @TestFactory
    fun answersAsPythonDoes(): List<DynamicTest> {
        val packs = listOf("tiny", "wide", "taps", "reads", "int8", "picture")
        return packs.map { name -> dynamicTest(name) { Packed(name, "onnxruntime", "onnx").assertAnswers() } }
    }

    @Test
    fun takesSeveralInputsByName() = Packed("row", "onnxruntime", "onnx").assertTakesInputsByName()

    @Test
    fun takesPicturesWhoseChannelsComeLast() = tiny.assertTakesChannelsLast()

    @Test
    fun givesPicturesWhoseChannelsComeLast() = Packed("picture", "onnxruntime", "onnx").assertGivesChannelsLast()

    @Test
    fun anOutputThatIsNoPictureHasOneLayout() {
        tiny.open().use { model ->
            val output = model.createOutputBuffer(Layout.CHANNELS_LAST)
            assertEquals(Layout.CONTIGUOUS, output.layout)
            model.run(model.createInputBuffer().also { it.write(tiny.inputs[0]) }, output)
            assertClose(tiny.outputs[checkNotNull(model.status.point)][0], output.readFloats(), "in its one layout")
        }
    }

    @Test
    fun buffersMayBeFilledFromTheirBeginningToTheirEnd() {
        tiny.open().use { model ->
            val (from, to) = model.createInputBuffer() to model.createOutputBuffer()
            repeat(2) {
                from.bytes.clear()
                tiny.inputs[0].forEach { from.bytes.putFloat(it) } // the position is at the end now
                val point = checkNotNull(model.run(from, to).point)
                to.bytes.clear()
                val found = FloatArray(to.type.elements) { to.bytes.getFloat() }
                assertClose(tiny.outputs[point][0], found, "filled by hand")
            }
        }
    }

    @Test
    fun opensWithTheBestPointForTheBudget() {
        tiny.open(Options(3_500_000.milliseconds)).use { model ->
            val status = model.status
            assertEquals(2, status.point)
            assertEquals(tiny.subnets[2], status.subnet)
            assertEquals(emptyList<String>(), status.loading)
            assertEquals(tiny.subnets[2].sumOf { tiny.blobOf(it).length() }, status.residentBytes)
            assertNull(status.error)
            assertTrue("3000000.00 ms" in status.why, status.why)
            assertEquals(listOf(1e6, 2e6, 3e6, 4e6, 5e6), model.points.map { it.latencyMs })
            assertEquals(4e6, model.wholeMs)
        }
    }

    @Test
    fun budgetsAndNamesDecideWhatServes() {
        tiny.open(Options(100.percent)).use { model ->
            assertEquals(3, model.status.point)
            model.setBudget(25.percent)
            model.settle()
            assertEquals(0, model.status.point)
            assertEquals(1, model.status.switches)
            model.activate(2)
            model.settle()
            assertEquals("it was asked for", model.status.why)
            assertClose(tiny.outputs[2][0], model.answer(tiny.inputs[0]), "point 2")
            assertThrows<GraphException> { model.activate(5) }
            assertThrows<GraphException> { model.activate(listOf("b0", "b2")) }
            assertThrows<BudgetException> { model.setBudget(50.percent, percentile = 100.0) }
            model.setBudget(0.5.milliseconds)
            model.settle()
            assertEquals(0, model.status.point)
            assertTrue("nothing fits" in model.status.why, model.status.why)
        }
    }

    @Test
    fun signalsTakePointsAway() {
        tiny.open(Options(100.percent)).use { model ->
            for (headroom in listOf(0.9, 0.97, 0.98)) model.observe(Signals(headroom = headroom))
            val until = System.nanoTime() + 60_000_000_000
            while (model.status.point == 3 && System.nanoTime() < until) Thread.sleep(5)
            model.settle()
            assertEquals(2, model.status.point)
            assertTrue("heat leaves 3 of 5 points" in model.status.why, model.status.why)
        }
    }

    @Test
    fun refusesBuffersOfAnotherType() {
        tiny.open().use { model ->
            val other = TensorBuffer(TensorType(listOf(1, 3, 8, 8), DType.FLOAT32))
            assertThrows<DataException> { model.run(other, model.createOutputBuffer()) }
            val error = assertThrows<DataException> { model.run(model.createInputBuffer(), other) }
            assertEquals("the output is float32 (1, 3, 8, 8); the pack's is float32 (1, 5)", error.message)
            assertThrows<DataException> { model.createInputBuffer().write(FloatArray(3)) }
            assertThrows<DataException> { model.createInputRow() }
            assertNotNull(model.run(model.createInputBuffer(), model.createOutputBuffer()).point)
        }
    }

    @Test
    fun aDamagedBlockLeavesTheOldSubnetServing() {
        val pack = tiny.copyTo(File(temporary, "pack"))
        AdaptiveModel.create(pack, tiny.profile, Options(25.percent)).use { model ->
            val blob = tiny.blobOf("b1", pack)
            val bytes = blob.readBytes()
            blob.writeBytes(bytes.clone().also { it[100] = (it[100] + 1).toByte() })
            model.activate(listOf("b0", "b1", "b2"))
            val error = assertThrows<PackException> { model.await(60_000) }
            assertTrue("is damaged: its content has SHA-256" in error.message.orEmpty(), error.message)
            assertEquals(error.message, model.status.error)
            assertEquals(0, model.status.point)
            assertEquals("what was asked for cannot be loaded", model.status.why)
            assertClose(tiny.outputs[0][0], model.answer(tiny.inputs[0]), "the old subnet")

            model.setBudget(1000.percent) // the best point has the damaged block; the next best without it serves
            model.settle()
            assertEquals(tiny.subnets.indexOfLast { "b1" !in it }, model.status.point)
            assertEquals("the controller's choice cannot be loaded", model.status.why)

            blob.writeBytes(bytes)
            model.activate(listOf("b0", "b1", "b2")) // by name it is tried again at once
            model.settle()
            assertEquals(listOf("b0", "b1", "b2"), model.status.subnet)
        }
    }

    @Test
    fun whatDoesNotFitTheMemoryLimitIsSaid() {
        val most = tiny.subnets.maxOf { subnet -> subnet.sumOf { tiny.blobOf(it).length() } }
        tiny.open(Options(25.percent, memoryMb = most / 1e6)).use { model ->
            model.activate(3)
            val error = assertThrows<DeviceException> { model.await(60_000) }
            val said = error.message.orEmpty()
            assertTrue("a subnet needs 0.0 MB beside the 0.0 MB that are loaded" in said, said)
            assertEquals(0, model.status.point)
        }
        tiny.open(Options(25.percent, memoryMb = 1.0)).use { model ->
            model.settle()
            val until = System.nanoTime() + 60_000_000_000
            val both = listOf(0, 1).sumOf { point -> tiny.subnets[point].sumOf { tiny.blobOf(it).length() } }
            while (model.status.residentBytes < both && System.nanoTime() < until) Thread.sleep(5)
            assertEquals(both, model.status.residentBytes) // the neighbour is loaded ahead
        }
    }

    @Test
    fun profilesOfOtherThingsAreRefused() {
        val wide = Packed("wide", "onnxruntime", "onnx")
        assertThrows<ProfileException> { AdaptiveModel.create(tiny.folder, wide.profile) }
        val error = assertThrows<ProfileException> { tiny.open(Options(threads = 2)) }
        assertEquals(
            "the profile was made with 1 threads, not 2; profile with these, or take it as of another device",
            error.message,
        )
        tiny.open(Options(threads = 2, ofAnotherDevice = true)).use { model ->
            assertClose(tiny.outputs[3][0], model.answer(tiny.inputs[0]), "with two threads")
        }
        val other = File(temporary, "profile.json")
        other.writeText(tiny.profile.readText().replace("\"onnxruntime\"", "\"tflite\""))
        val unknown = assertThrows<DeviceException> { AdaptiveModel.create(tiny.folder, other) }
        assertTrue("'tflite', and the app has onnxruntime" in unknown.message.orEmpty(), unknown.message)
    }

    @Test
    fun aWatchSeesEveryProgramBeforeItServesAndMayRefuseIt() {
        val seen = ArrayList<List<String>>()
        val denied = tiny.subnets[3]
        val watch = LoadWatch { blocks, work ->
            seen += blocks
            if (blocks == denied) throw DeviceException("it has ended the process before")
            work.run()
        }
        tiny.open(Options(100.percent, loadWatch = watch)).use { model ->
            assertEquals(2, model.status.point)
            assertEquals("it has ended the process before", model.status.error)
            assertEquals(listOf(denied, tiny.subnets[2]), seen)
            assertClose(tiny.outputs[2][0], model.answer(tiny.inputs[0]), "the next best")
        }
    }
}
