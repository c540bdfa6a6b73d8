package io.adaptivenet.android

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.CalibrationBounds
import io.adaptivenet.CalibrationEnd
import io.adaptivenet.Options
import io.adaptivenet.PackException
import io.adaptivenet.percent
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.ThreadFactory

/** A bundle that is calibrated on this machine; what it writes is read by tests/android_runner/test_calibrated.py. */
class BundleCalibrationTest {
    @TempDir
    lateinit var home: File

    private val options = Options(budget = 100000.percent)

    private fun calibration(context: Bare, folder: File = ASSETS) = BundleCalibration(
        context,
        { Unpacker.inPlace(folder) },
        options,
        CalibrationBounds(rounds = 6),
        ThreadFactory { Thread(it) }, // priorities are set by native code, which a JVM does not have
    )

    private fun points(context: Bare) = AndroidModels.create(context, ASSETS, options).use { it.points }

    @Test
    fun `models are opened with what was measured here`() {
        val context = Bare(home)
        val before = points(context)
        val result = calibration(context).run()
        assertEquals(CalibrationEnd.DONE, result.end)
        val profile = checkNotNull(result.profile)
        assertEquals(File(home, "adaptivenet/calibrated/tiny"), profile.parentFile)
        assertNotEquals(before, points(context))
        val bytes = profile.readBytes()
        calibration(context).run()
        assertTrue(bytes.contentEquals(profile.readBytes())) // there was nothing to do
        assertTrue("\"soc\":\"SM8475\"" in profile.readText())
        profile.copyTo(File(BUNDLE, "calibrated.json"), overwrite = true)
        profile.delete()
        assertEquals(before, points(context))
    }

    @Test
    fun `one that is cancelled before it began does nothing, and reads nothing when it is made`() {
        val missing = calibration(Bare(home), File(home, "missing"))
        assertThrows(PackException::class.java) { missing.run() }
        val calibration = calibration(Bare(home))
        calibration.cancel()
        assertEquals(CalibrationEnd.CANCELLED, calibration.run().end)
        assertFalse(File(home, "adaptivenet/calibrated/tiny").list().orEmpty().any { it.endsWith(".json") })
    }
}
