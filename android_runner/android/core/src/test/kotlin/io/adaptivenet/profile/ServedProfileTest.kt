package io.adaptivenet.profile

import io.adaptivenet.ProfileException
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

/** What a model reads of a profile, and what it refuses in C++'s words. */
class ServedProfileTest {
    private fun point(subnet: String, ms: Double, quality: String, more: String = "") =
        """{"subnet": ["$subnet"], "predicted_ms": 9, "measured_ms": $ms, "quality": $quality$more}"""

    private fun value(quality: Double) = """{"value": $quality}"""

    private fun profile(vararg points: String, edit: (String) -> String = { it }): ServedProfile = parseProfile(
        edit(
            """{"format": "adaptivenet-profile", "version": 2, "pack": {"digest": "ab"},
            "device": {"engine": "onnxruntime", "threads": 4}, "reference": {"median_ms": 12.5},
            "front": [${points.joinToString()}]}""",
        ).toByteArray(),
    )

    private val good = point("a", 3.0, value(0.5))

    private fun refusal(vararg points: String, edit: (String) -> String = { it }) =
        assertThrows<ProfileException> { profile(*points, edit = edit) }.message

    @Test
    fun pointsAreThoseThatAreBetterThanAllFasterOnes() {
        val read = profile(
            point("d", 6.0, value(0.6)),
            point("a", 3.0, value(0.5)),
            point("b", 4.0, value(0.5)),
            point("c", 5.0, "null"),
            point("e", 7.0, value(0.55)),
        )
        assertEquals(listOf(listOf("a"), listOf("c"), listOf("d")), read.points.map { it.subnet })
        assertEquals(listOf(3.0, 5.0, 6.0), read.points.map { it.costs.latencyMs })
        assertEquals(12.5, read.wholeMs)
        assertEquals("onnxruntime" to 4, read.engine to read.threads)
    }

    @Test
    fun whatWasNotMeasuredIsPredictedOrNotKnown() {
        val read = profile("""{"subnet": ["a"], "predicted_ms": 9, "measured_ms": null, "quality": null}""")
        assertEquals(9.0, read.points.single().costs.latencyMs)
        assertEquals(null, read.points.single().costs.residentMb)
        val more = """, "resident_mb": 12.5, "energy_mj": null"""
        assertEquals(12.5, profile(point("a", 3.0, "null", more)).points.single().costs.residentMb)
    }

    @Test
    fun refusesWhatIsNoProfile() {
        assertEquals("this is not a profile: it does not say 'adaptivenet-profile'", refusal(good) { "[]" })
        assertEquals("this is not a profile: it does not say 'adaptivenet-profile'", refusal(good) { "{}" })
        assertEquals(
            "the profile has version 3; this library reads version 2",
            refusal(good) { it.replace("\"version\": 2", "\"version\": 3") },
        )
        assertEquals(
            "the profile is not JSON: the key 'format' twice in one object; profile again",
            refusal(good) { it.replace("\"version\": 2", "\"format\": 2") },
        )
    }

    @Test
    fun refusesWhatIsDamaged() {
        assertEquals("the profile has no point on its front; profile again", refusal())
        assertEquals("the profile is damaged: a subnet takes 0.0 ms; profile again", refusal(point("a", 0.0, "null")))
        assertEquals(
            "the profile is damaged: a subnet takes '3' ms; profile again",
            refusal(good) { it.replace("3.0", "\"3\"") },
        )
        assertEquals(
            "the profile is damaged: it was made with 0 threads; profile again",
            refusal(good) { it.replace("\"threads\": 4", "\"threads\": 0") },
        )
        assertEquals(
            "the profile is damaged: it was made with 4.0 threads; profile again",
            refusal(good) { it.replace("\"threads\": 4", "\"threads\": 4.0") },
        )
        assertEquals(
            "the profile is damaged: the energy_mj of a subnet is -1; profile again",
            refusal(point("a", 3.0, "null", """, "energy_mj": -1""")),
        )
        for (field in listOf("pack", "device", "reference", "front", "digest", "engine", "median_ms", "subnet")) {
            assertThrows<ProfileException>(field) { profile(good) { it.replace("\"$field\"", "\"other\"") } }
        }
    }

    @Test
    fun refusesOtherEnginesAndThreads() {
        val read = profile(good)
        read.requireSameDevice("onnxruntime", 4)
        assertEquals(
            "the profile was made with the engine 'onnxruntime', not 'executorch'; " +
                "profile with these, or take it as of another device",
            assertThrows<ProfileException> { read.requireSameDevice("executorch", 4) }.message,
        )
    }
}
