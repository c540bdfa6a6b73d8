package io.adaptivenet.executorch

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.DeviceException
import io.adaptivenet.LoadWatch
import io.adaptivenet.Options
import io.adaptivenet.PackException
import io.adaptivenet.percent
import io.adaptivenet.testing.Packed
import io.adaptivenet.testing.answer
import io.adaptivenet.testing.assertClose
import io.adaptivenet.testing.assertEndedWithItsModel
import io.adaptivenet.testing.ended
import io.adaptivenet.testing.inBackground
import io.adaptivenet.testing.settle
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeEach
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.atomic.AtomicBoolean

/** What a model on ExecuTorch answers and pages: the Python wheel's engine behind the Android library's Java API. */
class ServingTest {
    private val tiny = Packed("tiny", "executorch", "executorch")

    @TempDir
    lateinit var temporary: File

    @BeforeEach
    fun needsTheHostLibrary() = assumeHostLibrary()

    private fun bytesOf(blocks: Collection<String>) = blocks.toSet().sumOf { tiny.blobOf(it).length() }

    @TestFactory
    fun answersAsPythonDoes(): List<DynamicTest> = listOf("tiny", "taps", "reads", "int8", "picture").map { name ->
        dynamicTest(name) { Packed(name, "executorch", "executorch").assertAnswers() }
    }

    @Test
    fun takesSeveralInputsByName() = Packed("row", "executorch", "executorch").assertTakesInputsByName()

    @Test
    fun takesPicturesWhoseChannelsComeLast() = tiny.assertTakesChannelsLast()

    @Test
    fun givesPicturesWhoseChannelsComeLast() =
        Packed("picture", "executorch", "executorch").assertGivesChannelsLast()

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
    fun onlyBlocksThatAreMissingArePagedIn() {
        val loaded = ArrayList<String>()
        val watch = LoadWatch { blocks, work ->
            loaded += blocks
            work.run()
        }
        tiny.open(Options(25.percent, loadWatch = watch)).use { model ->
            assertEquals(tiny.subnets[0], loaded)
            var before = tiny.subnets[0].toSet()
            for (point in listOf(1, 2, 3, 4, 0, 3)) {
                loaded.clear()
                model.activate(point)
                model.settle()
                val subnet = tiny.subnets[point]
                assertEquals(subnet.filter { it !in before }, loaded)
                assertEquals(bytesOf(subnet), model.status.residentBytes, "what is not needed is released")
                before = subnet.toSet()
                assertClose(tiny.outputs[point][0], model.answer(tiny.inputs[0]), "point $point")
            }
        }
    }

    @Test
    fun whatFitsTheLimitIsKept() {
        val all = bytesOf(tiny.subnets.flatten())
        tiny.open(Options(25.percent, memoryMb = all / 1e6)).use { model ->
            tiny.subnets.indices.forEach {
                model.activate(it)
                model.settle()
            }
            assertEquals(all, model.status.residentBytes)
        }
    }

    @Test
    fun inferencesGoOnBesideSwitches() {
        tiny.open().use { model ->
            val stop = AtomicBoolean()
            val inferring = tiny.inputs.indices.map { input -> inBackground { tiny.inferUntil(stop, model, input) } }
            repeat(200) { round ->
                model.activate((round * 3 + 1) % model.points.size)
                model.settle()
            }
            stop.set(true)
            inferring.forEach { assertTrue(it.ended() > 0) }
        }
    }

    @Test
    fun modelsMayLoadAtTheSameTimeAndBeClosedAtAnyMoment() {
        repeat(10) { round ->
            val models = List(2) { tiny.open(Options(50.percent)) }
            val working = models.flatMap { model ->
                listOf(
                    inBackground { tiny.inferUntil(AtomicBoolean(), model, 0) },
                    inBackground { while (true) model.activate((0 until model.points.size).random()) },
                )
            }
            Thread.sleep(round.toLong())
            models.map { inBackground { it.close() } }.forEach { it.ended() }
            working.forEach { assertEndedWithItsModel(it) }
        }
    }

    @Test
    fun aProgramThatIsDamagedLeavesTheOldSubnetServing() {
        val pack = tiny.copyTo(File(temporary, "pack"))
        AdaptiveModel.create(pack, tiny.profile, Options(25.percent)).use { model ->
            tiny.blobOf("b1", pack).delete()
            model.activate(listOf("b0", "b1", "b2"))
            val error = assertThrows<PackException> { model.await(60_000) }
            assertTrue("is missing; copy the pack again" in error.message.orEmpty(), error.message)
            assertClose(tiny.outputs[0][0], model.answer(tiny.inputs[0]), "the old subnet")
        }
    }

    @Test
    fun aPackForAnotherEngineIsRefused() {
        val wide = Packed("wide", "onnxruntime", "onnx")
        val profile = File(temporary, "profile.json")
        profile.writeText(wide.profile.readText().replace("\"onnxruntime\"", "\"executorch\""))
        val error = assertThrows<PackException> { AdaptiveModel.create(wide.folder, profile) }
        assertEquals(
            "pack 'wide' is not exported for 'executorch', only for onnx; export it again with that backend",
            error.message,
        )
        val absent = assertThrows<DeviceException> { AdaptiveModel.create(wide.folder, wide.profile) }
        assertTrue("and the app has executorch: add its module" in absent.message.orEmpty(), absent.message)
    }
}
