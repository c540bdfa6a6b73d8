package io.adaptivenet.calibration

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** What is believed of timings in rounds. */
class TimingsTest {
    private fun timings(rounds: Int, vararg usual: Double, edit: (Int, Int, Double) -> Double = { _, _, ms -> ms }) =
        Timings(usual.size).also { timings ->
            for (round in 0 until rounds) {
                usual.forEachIndexed { subnet, ms -> timings.add(subnet, round, List(5) { edit(subnet, round, ms) }) }
            }
        }

    private fun medians(timings: Timings) = timings.measured().map { it?.medianMs }

    @Test
    fun mediansAndQuartilesAreTimesThatOccurred() {
        val timings = Timings(1)
        timings.add(0, 0, listOf(4.0, 1.0, 3.0, 2.0))
        val found = checkNotNull(timings.measured().single())
        assertEquals(2.0, found.medianMs) // by nearest rank, as in Python
        assertEquals(2.0, found.spreadMs) // 3 - 1
        assertEquals(4, found.repetitions)
    }

    @Test
    fun aRoundInWhichTheDeviceWasSlowIsCorrected() {
        val slow = timings(8, 10.0, 20.0, 30.0) { _, round, ms -> if (round == 2 || round == 3) ms * 1.5 else ms }
        assertEquals(listOf(10.0, 20.0, 30.0), medians(slow))
        assertTrue(slow.measured().all { it?.spreadMs == 0.0 })
        assertEquals(0.0, slow.uncertainty())
    }

    @Test
    fun aVisitThatWasDisturbedIsNotTrusted() {
        val disturbed = timings(8, 10.0, 20.0, 30.0) { subnet, round, ms ->
            if (subnet == 1 && round < 3) ms * 3 else ms
        }
        assertEquals(listOf(10.0, 20.0, 30.0), medians(disturbed))
        assertEquals(25, disturbed.measured()[1]?.repetitions)
        assertEquals(40, disturbed.measured()[0]?.repetitions)
    }

    @Test
    fun twoSubnetsDoNotTellThatItWasTheDevice() {
        val slow = timings(9, 10.0, 20.0) { _, round, ms -> if (round == 2) ms * 1.5 else ms }
        assertEquals(listOf(10.0, 20.0), medians(slow))
        assertEquals(40, slow.measured()[0]?.repetitions) // the visits of that round are left out
    }

    @Test
    fun sixVisitsTellSomethingOfAMedian() {
        val wavers = { _: Int, round: Int, ms: Double -> ms * (1 + 0.01 * (round % 3)) }
        assertEquals(Double.POSITIVE_INFINITY, timings(5, 10.0, edit = wavers).uncertainty())
        assertEquals(0.1 / 10.1, timings(6, 10.0, edit = wavers).uncertainty(), 1e-12)
    }

    @Test
    fun aSubnetThatFailsTwiceIsGivenUp() {
        val timings = timings(4, 10.0, 20.0)
        timings.fail(1, "once")
        assertNull(timings.failure(1))
        assertNotNull(timings.measured()[1])
        assertEquals(4, timings.rounds)
        timings.fail(1, "twice")
        assertEquals("twice", timings.failure(1))
        assertNull(timings.measured()[1])
        timings.fail(0, "once")
        timings.fail(0, "twice")
        assertEquals(0, timings.rounds)
        assertEquals(0.0, timings.uncertainty())
    }
}
