package io.adaptivenet.executorch

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.Calibration
import io.adaptivenet.CalibrationBounds
import io.adaptivenet.CalibrationEnd
import io.adaptivenet.Options
import io.adaptivenet.Pictures
import io.adaptivenet.ThisDevice
import io.adaptivenet.percent
import io.adaptivenet.testing.Packed
import io.adaptivenet.testing.answer
import io.adaptivenet.testing.assertClose
import io.adaptivenet.testing.settle
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeEach
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.Executors
import java.util.concurrent.Future
import java.util.concurrent.TimeUnit.SECONDS
import java.util.concurrent.atomic.AtomicBoolean

/** A calibration on ExecuTorch, beside a model that infers and switches: they share the process's pool of threads. */
class CalibrationTest {
    private val tiny = Packed("tiny", "executorch", "executorch")
    private val device = ThisDevice("a desktop", app = "one.apk")

    @TempDir
    lateinit var home: File

    @BeforeEach
    fun needsTheHostLibrary() = assumeHostLibrary()

    @Test
    fun aModelServesBesideItAndWithWhatItMeasured() {
        val isOver = AtomicBoolean()
        val inferring = Executors.newSingleThreadExecutor()
        val options = Options(100.percent, threads = 1)
        val made = tiny.open(options).use { model ->
            val serving: Future<Int> = inferring.submit<Int> {
                var count = 0
                while (!isOver.get() || count < tiny.subnets.size) {
                    val point = count++ % tiny.subnets.size
                    model.activate(point)
                    model.settle()
                    assertClose(tiny.outputs[point][0], model.answer(tiny.inputs[0]), "while it is measured")
                }
                count
            }
            val result = try {
                Calibration(tiny.folder, tiny.profile, home, device, options, CalibrationBounds(rounds = 6)).run()
            } finally {
                isOver.set(true)
            }
            assertTrue(serving.get(60, SECONDS) > 0)
            assertEquals(CalibrationEnd.DONE, result.end)
            checkNotNull(result.profile)
        }
        inferring.shutdown()
        assertEquals("executorch-app-1.json", made.name)
        assertEquals(made, Calibration.profileFor(tiny.profile, home, device, options))
        AdaptiveModel.create(tiny.folder, made, Options(1_000_000.percent)).use { model ->
            assertTrue(model.points.all { it.latencyMs < 1e6 })
            val subnet = model.status.subnet
            assertClose(tiny.outputs[tiny.subnets.indexOf(subnet)][0], model.answer(tiny.inputs[0]), "$subnet")
        }
    }

    @Test
    fun theFrontIsThatOfTheAppsOwnPictures() {
        val int8 = Packed("int8", "executorch", "executorch")
        val random = java.util.Random(0)
        val pictures = Pictures.of(List(12) { FloatArray(768) { random.nextGaussian().toFloat() } }.iterator())
        val calibration =
            Calibration(int8.folder, int8.profile, home, device, Options(threads = 1), CalibrationBounds(rounds = 6))
        val made = checkNotNull(calibration.search(pictures).profile)
        assertTrue("\"metric\":\"agreement\",\"n\":4,\"value\":1.0" in made.readText()) // of the original, at least
        AdaptiveModel.create(int8.folder, made, Options(1_000_000.percent, threads = 1)).use { model ->
            model.run(model.createInputBuffer(), model.createOutputBuffer())
        }
    }
}
