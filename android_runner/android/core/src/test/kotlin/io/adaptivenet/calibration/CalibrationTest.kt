package io.adaptivenet.calibration

import io.adaptivenet.AdaptiveModel
import io.adaptivenet.Calibration
import io.adaptivenet.CalibrationBounds
import io.adaptivenet.CalibrationEnd
import io.adaptivenet.CalibrationListener
import io.adaptivenet.DeviceException
import io.adaptivenet.Heat
import io.adaptivenet.Options
import io.adaptivenet.PackException
import io.adaptivenet.ProfileException
import io.adaptivenet.ThisDevice
import io.adaptivenet.get
import io.adaptivenet.items
import io.adaptivenet.json.Json
import io.adaptivenet.json.parseJson
import io.adaptivenet.profile.readProfile
import io.adaptivenet.string
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.ThreadFactory

private const val VISIT = WARMUP + TIMED // inferences

/** The course of a calibration, on a clock and an engine of the test's: five subnets of six blocks. */
class CalibrationTest {
    @TempDir
    lateinit var folder: File

    private val tiny = File(System.getProperty("adaptivenet.packs"), "tiny")
    private val pack = File(tiny, "pack")
    private val profile = File(tiny, "onnxruntime.json")
    private val home by lazy { File(folder, "home") }
    private val clock = FakeClock()
    private val ms = mapOf("b0" to 4.0, "b1" to 3.0, "b2" to 1.0, "b0-m2" to 5.0, "b0-p50" to 2.0, "b1-p50" to 4.5)
    private val engine = engine()
    private val device = ThisDevice("a phone", "Android 14", "SM8475")

    private fun engine(joinsBlocks: Boolean = true, version: String? = "1.0") =
        FakeEngine(clock, joinsBlocks, version) { ms.getValue(it) }

    private fun calibration(
        options: Options = Options(engine = engine),
        bounds: CalibrationBounds = CalibrationBounds(rounds = 6),
        heat: Heat = Heat { null },
        device: ThisDevice = this.device,
        profile: File = this.profile,
        pack: File = this.pack,
    ) = Calibration(pack, profile, home, device, options, bounds, heat, ThreadFactory { Thread(it) }, clock)

    private fun written(): Json = parseJson(File(home, "onnxruntime-1.0-1.json").readBytes())

    private fun warnings(document: Json) = document["warnings"].items.map { it.string }

    private val journal get() = File(home, "onnxruntime-1.0-1.journal")

    private fun visits(): Int = journal.readLines().size - 1

    @Test
    fun measuresAllPointsAndWritesTheProfileOfThisDevice() {
        val shares = ArrayList<Double>()
        var noted = emptyList<String>()
        val result = calibration().run {
            shares += it.share
            journal.takeIf { file -> file.exists() }?.let { file -> noted = file.readLines() }
        }
        assertEquals(CalibrationEnd.DONE, result.end)
        assertEquals(setOf("onnxruntime-1.0-1.json"), home.list().orEmpty().toSet())
        val found = readProfile(checkNotNull(result.profile))
        val before = readProfile(profile).points.associate { it.subnet to it.costs.latencyMs }
        for (point in found.points) assertEquals(point.subnet.sumOf { ms.getValue(it) }, point.costs.latencyMs, 1e-6)
        assertTrue(found.points.size < before.size)
        assertEquals(shares.sorted(), shares)
        assertEquals(1.0, shares.last())
        assertEquals(1, engine.most) // the programs of one subnet at a time
        assertEquals(0, engine.loaded)
        assertEquals(5 * 6 * VISIT, engine.runs)
        val rounds = noted.drop(1).map { parseJson(it.toByteArray())["subnet"] }.chunked(5)
        assertTrue(rounds.all { it.toSet().size == 5 }) // each once a round,
        assertTrue(rounds.toSet().size > 1) // in various orders
    }

    @Test
    fun saysWhatItIsOf() {
        calibration().run()
        val document = written()
        assertEquals("a phone" to "SM8475", document["device"]["name"].string to document["device"]["soc"].string)
        assertEquals("1.0", document["device"]["engine_version"].string)
        assertEquals("onnxruntime", document["calibration"]["of"]["engine"].string)
        assertTrue("qualities, memory and energy are those of 'another device'" in warnings(document)[0])
        assertTrue("points are left out: on this device a faster one is as good" in warnings(document)[1])
        val oracle = document["front"].items.first { each ->
            each["subnet"].items.joinToString { it.string } == "b0, b1, b2"
        }
        assertEquals(Json.Whole(30), oracle["repetitions"])
        assertEquals(Json.Decimal(8.0), oracle["measured_ms"])
    }

    @Test
    fun aModelIsOpenedWithItFromThenOn() {
        val options = Options(engine = engine)
        assertEquals(profile, Calibration.profileFor(profile, home, device, options))
        val made = calibration().run().profile
        assertEquals(made, Calibration.profileFor(profile, home, device, options))
        AdaptiveModel.create(pack, checkNotNull(made), options).use { assertTrue(it.points.last().latencyMs < 10) }
        val loads = engine.loads.size
        assertTrue(calibration().run().isDone)
        assertEquals(loads, engine.loads.size) // there is nothing to do
        val others = mapOf(
            "threads" to Options(engine = engine, threads = 2),
            "engine" to Options(engine = engine(version = "1.1")),
        )
        for ((what, other) in others) assertEquals(profile, Calibration.profileFor(profile, home, device, other), what)
        val updated = ThisDevice("a phone", "Android 15", "SM8475")
        assertEquals(profile, Calibration.profileFor(profile, home, updated, options))
        val changed = File(folder, "changed.json").apply { writeText(profile.readText() + "\n") }
        assertEquals(changed, Calibration.profileFor(changed, home, device, options))
        checkNotNull(made).writeText("{")
        assertEquals(profile, Calibration.profileFor(profile, home, device, options))
        assertTrue(calibration().run().isDone)
        assertEquals(made, Calibration.profileFor(profile, home, device, options))
    }

    @Test
    fun anEngineThatDoesNotTellItsVersionIsThatOfTheApp() {
        val options = Options(engine = engine(version = null))
        val one = ThisDevice("a phone", "Android 14", app = "one.apk")
        val made = calibration(options, device = one).run().profile
        assertEquals(made, Calibration.profileFor(profile, home, one, options))
        val two = ThisDevice("a phone", "Android 14", app = "two.apk")
        assertEquals(profile, Calibration.profileFor(profile, home, two, options))
    }

    @Test
    fun whatIsCancelledGoesOnInAnotherProcess() {
        val first = calibration()
        engine.onRun = { if (engine.runs == 60) first.cancel() } // in its eighth visit
        assertEquals(CalibrationEnd.CANCELLED, first.run().end)
        assertEquals(60, engine.runs)
        assertEquals(7, visits())
        assertEquals(0, engine.loaded)
        assertEquals(CalibrationEnd.CANCELLED, first.run().end) // for good
        assertNull(first.run().profile)
        journal.appendText("{\"subnet\":1,\"rou") // its last line was cut off
        engine.runs = 0
        engine.onRun = { }
        assertTrue(calibration().run().isDone)
        assertEquals((5 * 6 - 7) * VISIT, engine.runs)
        assertFalse(journal.exists())
    }

    @Test
    fun whatAListenerThrowsEndsIt() {
        val listener = CalibrationListener { if (it.share > 0.2) throw IllegalArgumentException("enough") }
        assertEquals("enough", assertThrows<IllegalArgumentException> { calibration().run(listener) }.message)
        assertEquals(0, engine.loaded)
        assertEquals(7, visits())
    }

    @Test
    fun anInterruptedThreadCancels() {
        engine.onRun = { Thread.sleep(1) }
        val waiting = Thread.currentThread()
        val result = calibration().run { waiting.interrupt() }
        assertTrue(Thread.interrupted())
        assertEquals(CalibrationEnd.CANCELLED, result.end)
    }

    @Test
    fun pausesWhileTheDeviceIsHotWithNothingLoaded() {
        var asked = 0
        val headrooms = listOf(0.5, 0.85, null, Double.NaN, 0.75, 0.65)
        val paused = ArrayList<Int>()
        val heat = Heat { headrooms[minOf(asked++, headrooms.lastIndex)] }
        engine.onRun = { clock.pass(300.0) } // so that it is looked at every few visits
        val result = calibration(heat = heat).run { if (it.isPaused) paused += engine.loaded }
        assertTrue(result.isDone)
        assertEquals(listOf(0, 0, 0, 0), paused) // at 0.85, at two looks that are not answered, and at 0.75
        assertEquals(4, clock.waits)
    }

    @Test
    fun timeThatIsUpIsNoResultBeforeThreeRounds() {
        engine.onRun = { clock.pass(10_000.0) } // a visit takes 80 s, a round 400 s
        val bounds = CalibrationBounds(maxSeconds = 600.0, rounds = 6)
        assertEquals(CalibrationEnd.OUT_OF_TIME, calibration(bounds = bounds).run().end)
        assertEquals(7, visits())
        assertEquals(CalibrationEnd.OUT_OF_TIME, calibration(bounds = bounds).run().end)
        assertEquals(14, visits()) // it goes on at a visit, not within it
        val result = calibration(bounds = bounds).run()
        assertTrue(result.isDone) // of six rounds, four were begun
        val repetitions = written()["front"].items.map { (it["repetitions"] as Json.Whole).value }
        assertTrue(repetitions.all { it == 20L || it == 25L }, "$repetitions")
    }

    @Test
    fun aDeviceThatStaysHotRunsOutOfTime() {
        val result = calibration(heat = { 1.2 }, bounds = CalibrationBounds(maxSeconds = 60.0)).run()
        assertEquals(CalibrationEnd.OUT_OF_TIME, result.end)
        assertEquals(0, engine.runs)
        assertEquals(12, clock.waits)
    }

    @Test
    fun whatFailsIsLeftOutAndSaid() {
        engine.failing += "b0-m2"
        val result = calibration().run()
        val points = readProfile(checkNotNull(result.profile)).points
        assertTrue(points.none { "b0-m2" in it.subnet })
        val said = "'b0-m2 b2' is left out, it failed on this device: b0-m2 does not load"
        assertTrue(said in warnings(written()), "${warnings(written())}")
    }

    @Test
    fun aPackThatIsDamagedEndsItUntilItIsWhole() {
        val damaged = File(folder, "pack").also { pack.copyRecursively(it) }
        val blob = File(damaged, blobs().getValue("b1"))
        val bytes = blob.readBytes()
        blob.writeBytes(bytes.clone().also { it[100] = (it[100] + 1).toByte() })
        val error = assertThrows<PackException> { calibration(pack = damaged).run() }
        assertTrue("is damaged: its content has SHA-256" in error.message.orEmpty(), error.message)
        assertEquals(listOf(journal.name), home.list().orEmpty().toList())
        val before = visits()
        blob.writeBytes(bytes)
        engine.runs = 0
        assertTrue(calibration(pack = damaged).run().isDone)
        assertEquals((5 * 6 - before) * VISIT, engine.runs)
        assertEquals(emptyList<Json>(), written()["calibration"]["failed"].items)
    }

    @Test
    fun latenciesThatAreHardlyKnownAreSaidToBe() {
        val doubts = { warnings(written()).filter { "what some subnets take" in it } }
        assertTrue(calibration().run().isDone)
        assertEquals(emptyList<String>(), doubts())
        assertTrue("is only known within 23%" in doubt(0.234).orEmpty(), doubt(0.234))
        home.deleteRecursively()
        engine.onRun = { clock.pass(1_000.0) }
        assertTrue(calibration(bounds = CalibrationBounds(maxSeconds = 150.0)).run().isDone)
        assertTrue("was seen in few rounds" in doubts().single(), "${doubts()}")
    }

    @Test
    fun whereEverythingFailsThereIsNoProfile() {
        engine.failing += ms.keys
        val error = assertThrows<DeviceException> { calibration().run() }
        val said = "no point of the profile could be measured on this device: b"
        assertTrue(error.message.orEmpty().startsWith(said), error.message)
        assertEquals(emptyList<String>(), home.list().orEmpty().toList()) // the next one tries it anew
        engine.failing.clear()
        assertTrue(calibration().run().isDone)
    }

    @Test
    fun blocksOfSeveralSubnetsAreLoadedOnceWhereTheyFit() {
        val blocks = engine(joinsBlocks = false)
        assertTrue(calibration(Options(engine = blocks, memoryMb = 1.0)).run().isDone)
        assertEquals(6, blocks.loads.size)
        assertEquals(0, blocks.loaded)
        val one = engine(joinsBlocks = false)
        home.deleteRecursively()
        assertTrue(calibration(Options(engine = one)).run().isDone)
        assertEquals(3, one.most)
    }

    @Test
    fun whatIsAboveTheLimitOfMemoryIsPredicted() {
        val sizes = readProfile(profile).points.associate { point ->
            point.subnet to point.subnet.sumOf { File(tiny, "pack/${blobs().getValue(it)}").length() }
        }
        val limit = sizes.values.sorted()[2]
        assertTrue(calibration(Options(engine = engine, memoryMb = limit / 1e6)).run().isDone)
        val warning = warnings(written()).single { "were not measured" in it }
        val above = sizes.values.count { it > limit }
        assertEquals("$above subnets were not measured on this device: their latencies are predicted", warning)
        val unmeasured = written()["front"].items.filter { it["measured_ms"] == Json.Null }
        assertTrue(unmeasured.all { it["repetitions"] == Json.Whole(0) && it["spread_ms"] == Json.Null })
        assertEquals(above, written()["calibration"]["not_measured"].items.size)
    }

    private fun blobs(): Map<String, String> = parseJson(File(tiny, "pack/manifest.json").readBytes())["blocks"].items
        .associate { it["name"].string to it["artifacts"]["onnx"]["file"].string }

    @Test
    fun profilesOfOtherPacksAreRefused() {
        val other = File(tiny.parentFile, "wide/onnxruntime.json")
        assertThrows<ProfileException> { calibration(profile = other).run() }
        assertThrows<IllegalArgumentException> { CalibrationBounds(rounds = 5) }
        assertThrows<IllegalArgumentException> { CalibrationBounds(maxSeconds = 0.0) }
        assertThrows<IllegalArgumentException> { CalibrationBounds(pauseAtHeat = Double.NaN) }
    }
}
