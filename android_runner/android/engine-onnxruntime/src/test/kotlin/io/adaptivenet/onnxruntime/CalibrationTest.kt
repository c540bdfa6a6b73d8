package io.adaptivenet.onnxruntime

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.Calibration
import io.adaptivenet.CalibrationBounds
import io.adaptivenet.CalibrationEnd
import io.adaptivenet.DeviceException
import io.adaptivenet.LoadWatch
import io.adaptivenet.Options
import io.adaptivenet.ThisDevice
import io.adaptivenet.percent
import io.adaptivenet.testing.Packed
import io.adaptivenet.testing.answer
import io.adaptivenet.testing.assertClose
import io.adaptivenet.testing.settle
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.Executors
import java.util.concurrent.Future
import java.util.concurrent.TimeUnit.SECONDS
import java.util.concurrent.atomic.AtomicBoolean

/** A calibration on ONNX Runtime itself, beside a model that serves. */
class CalibrationTest {
    @TempDir
    lateinit var home: File

    private val device = ThisDevice("a desktop")

    private fun calibration(packed: Packed, options: Options = Options()) =
        Calibration(packed.folder, packed.profile, home, device, options, CalibrationBounds(rounds = 6))

    @Test
    fun aModelServesBesideItAndWithWhatItMeasured() {
        val int8 = Packed("int8", "onnxruntime", "onnx")
        val isOver = AtomicBoolean()
        val inferring = Executors.newSingleThreadExecutor()
        val made = int8.open(Options(100.percent)).use { model ->
            val point = checkNotNull(model.status.point)
            val serving: Future<Int> = inferring.submit<Int> {
                var count = 0
                while (!isOver.get() || count == 0) {
                    assertClose(int8.outputs[point][0], model.answer(int8.inputs[0]), "while it is measured")
                    count++
                }
                count
            }
            val result = try {
                calibration(int8).run()
            } finally {
                isOver.set(true)
            }
            assertTrue(serving.get(60, SECONDS) > 0)
            assertEquals(CalibrationEnd.DONE, result.end)
            checkNotNull(result.profile)
        }
        inferring.shutdown()
        assertEquals(made, Calibration.profileFor(int8.profile, home, device))
        AdaptiveModel.create(int8.folder, made, Options(1_000_000.percent)).use { model ->
            assertTrue(model.points.all { it.latencyMs < 1e6 }) // the first profile said that each takes more
            val subnet = model.status.subnet
            assertClose(int8.outputs[int8.subnets.indexOf(subnet)][0], model.answer(int8.inputs[0]), "$subnet")
        }
    }

    @Test
    fun aProgramThatIsRefusedIsLeftOut() {
        val tiny = Packed("tiny", "onnxruntime", "onnx")
        val watch = { blocks: List<String>, work: Runnable ->
            if ("b0-m2" in blocks) throw DeviceException("it ended the app") else work.run()
        }
        val result = calibration(tiny, Options(loadWatch = watch)).run()
        val text = checkNotNull(result.profile).readText()
        assertTrue("'b0-m2 b2' is left out, it failed on this device: it ended the app" in text, text)
    }

    @Test
    fun aBlockThatDoesNotRunIsLeftOut() {
        val tiny = Packed("tiny", "onnxruntime", "onnx")
        val watch = LoadWatch { blocks, work ->
            if ("b0-p50" in blocks) throw DeviceException("it has ended the process before")
            work.run()
        }
        val made = calibration(tiny, Options(loadWatch = watch)).run()
        AdaptiveModel.create(tiny.folder, checkNotNull(made.profile), Options(1_000_000.percent)).use { model ->
            assertTrue("b0-p50" !in model.status.subnet)
            model.points.indices.forEach {
                model.activate(it)
                model.settle()
            }
        }
    }
}
