package io.adaptivenet.onnxruntime

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.Calibration
import io.adaptivenet.CalibrationBounds
import io.adaptivenet.CalibrationEnd
import io.adaptivenet.DataException
import io.adaptivenet.Options
import io.adaptivenet.PackException
import io.adaptivenet.Pictures
import io.adaptivenet.ThisDevice
import io.adaptivenet.percent
import io.adaptivenet.testing.Packed
import io.adaptivenet.testing.settle
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.double
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import java.io.File

/** A search on a phone, on ONNX Runtime itself: what it says of subnets is what Python says of them. */
class SearchTest {
    @TempDir
    lateinit var home: File

    private val folder = File(System.getProperty("adaptivenet.packs"), "search")
    private fun parsed(name: String) = Json.parseToJsonElement(File(folder, name).readText())

    private val pictures = Pictures.of(
        parsed("pictures.json").jsonArray.map { floats(it as JsonArray) }.iterator(),
    )

    private fun floats(values: JsonArray) = FloatArray(values.size) { values[it].jsonPrimitive.double.toFloat() }

    private fun calibration() = Calibration(
        File(folder, "pack"),
        File(folder, "onnxruntime.json"),
        home,
        ThisDevice("a desktop"),
        bounds = CalibrationBounds(rounds = 6),
    )

    private fun points(profile: File) =
        Json.parseToJsonElement(profile.readText()).jsonObject.getValue("front").jsonArray.map { it.jsonObject }

    private fun names(point: JsonObject) =
        point.getValue("subnet").jsonArray.joinToString(" ") { it.jsonPrimitive.content }

    /** What Python says of every subnet, by its pictures. */
    private val right: JsonObject =
        parsed("cases.json").jsonObject.getValue("cases").jsonArray[0].jsonObject.getValue("right").jsonObject

    @Test
    fun theFrontIsThatOfTheAppsOwnPictures() {
        val profile = checkNotNull(calibration().search(pictures).profile)
        val front = points(profile)
        val searched = pictures.size - pictures.size / 3
        for (point in front) {
            val quality = point.getValue("quality").jsonObject
            assertEquals("agreement", quality.getValue("metric").jsonPrimitive.content)
            assertEquals(pictures.size - searched, quality.getValue("n").jsonPrimitive.int)
            val python = right.getValue(names(point)).jsonPrimitive.content.drop(searched)
            val agreement = python.count { it == '1' }.toDouble() / python.length
            assertEquals(agreement, quality.getValue("value").jsonPrimitive.double, 1.5 / python.length)
            assertTrue(point.getValue("repetitions").jsonPrimitive.int > 0)
        }
        assertEquals(1, front.count { names(it) == "b0 b1 b2 b3 b4" })
        val options = Options(1_000_000.percent)
        val first = File(folder, "onnxruntime.json")
        assertEquals(profile, Calibration.profileFor(first, home, ThisDevice("a desktop"), options))
        AdaptiveModel.create(File(folder, "pack"), profile, options).use { model ->
            model.points.indices.forEach {
                model.activate(it)
                model.settle()
            }
        }
        assertEquals(listOf(profile.name), home.list().orEmpty().toList())
        val before = profile.readBytes()
        assertTrue(calibration().search(pictures).isDone && calibration().run().isDone) // there is nothing to do
        assertTrue(before.contentEquals(profile.readBytes()))
        profile.copyTo(File(folder, "searched.json"), overwrite = true)
    }

    @Test
    fun aSearchThatIsCancelledGoesOn() {
        val evaluations = File(home, "onnxruntime-${OnnxRuntime().version}-1.evaluations")
        calibration().run()
        val first = calibration()
        val result = first.search(pictures) {
            if (evaluations.exists() && evaluations.readLines().size > 3) first.cancel()
        }
        assertEquals(CalibrationEnd.CANCELLED, result.end)
        val noted = evaluations.readLines()
        assertTrue(noted.size > 3)
        var kept = emptyList<String>()
        assertTrue(calibration().search(pictures) { if (evaluations.exists()) kept = evaluations.readLines() }.isDone)
        assertEquals(noted, kept.take(noted.size))
        assertFalse(evaluations.exists())
    }

    @Test
    fun packsWithoutAMetricAndTooFewPicturesAreRefused() {
        val taps = Packed("taps", "onnxruntime", "onnx")
        val other = Calibration(taps.folder, taps.profile, File(home, "taps"), bounds = CalibrationBounds(rounds = 6))
        val error = assertThrows<PackException> { other.search(pictures) }
        val said = "has no metric that compares a subnet with the original network alone, only none"
        assertTrue(said in error.message.orEmpty(), error.message)
        assertThrows<DataException> { calibration().search(Pictures.of(List(5) { FloatArray(768) }.iterator())) }
        assertThrows<DataException> { calibration().search(Pictures.of(List(6) { FloatArray(7) }.iterator())) }
        assertThrows<IllegalArgumentException> { calibration().search(pictures, pictures.size) }
    }
}
