package io.adaptivenet.onnxruntime

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.DeviceException
import io.adaptivenet.LoadWatch
import io.adaptivenet.Options
import io.adaptivenet.Signals
import io.adaptivenet.percent
import io.adaptivenet.testing.Packed
import io.adaptivenet.testing.answer
import io.adaptivenet.testing.assertEndedWithItsModel
import io.adaptivenet.testing.ended
import io.adaptivenet.testing.inBackground
import io.adaptivenet.testing.settle
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import java.io.File
import java.util.concurrent.ExecutionException
import java.util.concurrent.atomic.AtomicBoolean

private const val PAGE_BYTES = 4096L

/** A model that is used from several threads at once, and that is closed while it is. */
class ConcurrencyTest {
    private val wide = Packed("wide", "onnxruntime", "onnx")

    /** Of the process, whose heap has a fixed size; direct memory is released some time after a collection. */
    private fun residentBytesAfterCollection(): Long {
        System.gc()
        Thread.sleep(200)
        return File("/proc/self/statm").readText().split(' ')[1].toLong() * PAGE_BYTES
    }

    @Test
    fun inferencesGoOnBesideSwitches() {
        wide.open().use { model ->
            val stop = AtomicBoolean()
            val inferring = wide.inputs.indices.map { input -> inBackground { wide.inferUntil(stop, model, input) } }
            repeat(60) { round ->
                model.activate((round * 7 + 1) % model.points.size)
                model.settle()
            }
            stop.set(true)
            inferring.forEach { assertTrue(it.ended() > 0) }
            assertTrue(model.status.switches >= 55, "${model.status.switches}")
        }
    }

    @Test
    fun aThousandSwitchesLeaveNothingBehind() {
        wide.open().use { model ->
            fun switches(count: Int) = repeat(count) { round ->
                model.activate((round * 7 + 1) % model.points.size)
                model.settle()
                model.answer(wide.inputs[0])
            }
            switches(200)
            val before = residentBytesAfterCollection()
            switches(1000)
            val grown = residentBytesAfterCollection() - before
            // A session of these takes 0.1 MB or more: if each were kept, it would be over 100 MB.
            assertTrue(grown < 48_000_000, "grew by $grown bytes")
            val resident = model.status.subnet.sumOf { wide.blobOf(it).length() }
            assertEquals(resident, model.status.residentBytes)
        }
    }

    @Test
    fun mayBeClosedAtAnyMoment() {
        repeat(40) { round ->
            val model = wide.open(Options(50.percent))
            val never = AtomicBoolean()
            val inferring = wide.inputs.indices.map { input -> inBackground { wide.inferUntil(never, model, input) } }
            val switching = inBackground {
                while (true) model.activate((0 until model.points.size).random())
            }
            Thread.sleep((round % 8).toLong())
            val closing = List(2) { inBackground { model.close() } }
            closing.forEach { it.ended() }
            (inferring + switching).forEach { assertEndedWithItsModel(it) }
        }
    }

    @Test
    fun aClosedModelSaysSo() {
        val model = wide.open()
        val (from, to) = model.createInputBuffer() to model.createOutputBuffer()
        model.close()
        model.close()
        val uses = listOf<() -> Any?>(
            { model.run(from, to) },
            { model.status },
            { model.activate(0) },
            { model.setBudget(50.percent) },
            { model.await() },
            { model.observe(Signals()) },
        )
        for (use in uses) assertEquals("the model is closed", assertThrows<IllegalStateException> { use() }.message)
    }

    @Test
    fun whatWatchesALoadCannotCloseTheModel() {
        var model: AdaptiveModel? = null
        val watch = LoadWatch { _, work ->
            model?.close()
            work.run()
        }
        wide.open(Options(50.percent, loadWatch = watch)).use { opened ->
            model = opened
            val other = opened.points.indices.first { it != opened.status.point }
            opened.activate(other)
            val error = assertThrows<DeviceException> { opened.await(60_000) }
            assertTrue("a model cannot be closed by what watches it load" in error.message.orEmpty(), error.message)
            opened.answer(wide.inputs[0])
        }
    }

    @Test
    fun whoWaitsWhenItIsClosedIsTold() {
        val model = wide.open()
        val waiting = inBackground {
            while (true) {
                model.activate((0 until model.points.size).random())
                model.await()
            }
        }
        Thread.sleep(50)
        model.close()
        val error = assertThrows<ExecutionException> { waiting.ended() }
        assertTrue(error.cause is IllegalStateException, "${error.cause}")
    }
}
