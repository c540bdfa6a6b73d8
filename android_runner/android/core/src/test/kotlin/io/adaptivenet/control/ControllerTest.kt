package io.adaptivenet.control

import io.adaptivenet.BudgetException
import io.adaptivenet.Budgets
import io.adaptivenet.Cause
import io.adaptivenet.DeviceException
import io.adaptivenet.Point
import io.adaptivenet.Sensor
import io.adaptivenet.Signals
import io.adaptivenet.contains
import io.adaptivenet.double
import io.adaptivenet.get
import io.adaptivenet.int
import io.adaptivenet.items
import io.adaptivenet.json.Json
import io.adaptivenet.json.text
import io.adaptivenet.numberOrNull
import io.adaptivenet.string
import io.adaptivenet.vectors
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.assertThrows

/** The controller decides as those in Python and C++ do: all replay tests/vectors/controller.json. */
class ControllerTest {
    private fun pointsOf(list: Json) =
        list.items.map { Point(it["latency_ms"].double, it.numberOrNull("resident_mb"), it.numberOrNull("energy_mj")) }

    private fun budgetsOf(each: Json) = Budgets(
        each["latency_ms"].double,
        each["percentile"].double,
        each.numberOrNull("memory_mb"),
        each.numberOrNull("energy_mj"),
    )

    private fun signalsOf(each: Json) = Signals(
        each.numberOrNull("free_mb"),
        each.numberOrNull("pressure"),
        each.numberOrNull("celsius"),
        each.numberOrNull("throttles_at"),
        each.numberOrNull("headroom"),
        each.numberOrNull("battery"),
        if ("charging" in each) (each["charging"] as Json.Flag).value else null,
        each.numberOrNull("waited"),
        if ("states" in each) each["states"].items.map { sensorOf(it) }.toSet() else emptySet(),
    )

    private fun sensorOf(name: Json) = Sensor.valueOf(checkNotNull(name.text).uppercase())

    private fun give(controller: Controller, record: Json): Boolean {
        if (record is Json.Items) {
            val (endedS, ms) = record.values.map { it.double }
            return if (record.values.size == 2) {
                controller.observe(endedS, ms)
            } else {
                controller.observe(endedS, ms, record[2].int)
            }
        }
        val atS = record["at_s"].double
        if ("signals" in record) return controller.sense(atS, signalsOf(record["signals"]))
        controller.setBudgets(atS, budgetsOf(record["budgets"]))
        return true
    }

    private fun replay(trace: Json) {
        val controller = Controller(pointsOf(trace["points"]), budgetsOf(trace["budgets"]))
        val decisions = trace["decisions"].items
        val records = trace["records"].items
        var made = 0
        for (count in 0..records.size) {
            if (made < decisions.size && decisions[made][0].int == count) {
                val expected = decisions[made++]
                assertEquals(expected[1].int, controller.point, "after $count")
                assertEquals(expected[2].double, controller.slowdown, "after $count")
                assertEquals(expected[3].string, controller.decision.cause.label, "after $count")
                assertEquals(expected[4].string, controller.decision.why, "after $count")
            }
            if (count == records.size) break
            val decided = give(controller, records[count])
            val expected = made < decisions.size && decisions[made][0].int == count + 1
            assertEquals(expected, decided, "after ${count + 1}")
        }
        assertEquals(decisions.size, made)
    }

    @TestFactory
    fun decidesAsTheOthersDo(): List<DynamicTest> {
        val cases = vectors("controller.json")["cases"].items
        assertTrue(cases.size >= 20)
        return cases.map { dynamicTest(it["name"].string) { replay(it) } }
    }

    private val points = listOf(Point(5.0), Point(8.0))

    @Test
    fun needsBudgets() {
        assertThrows<BudgetException> { Budgets(0.0) }
        assertThrows<BudgetException> { Budgets(Double.NaN) }
        assertThrows<BudgetException> { Budgets(8.0, 49.0) }
        assertThrows<BudgetException> { Budgets(8.0, Double.NaN) }
        assertThrows<BudgetException> { Budgets(8.0, memoryMb = -1.0) }
        assertThrows<BudgetException> { Budgets(8.0, energyMj = 0.0) }
    }

    @Test
    fun needsAFront() {
        for (latencies in listOf(listOf(), listOf(8.0, 5.0), listOf(0.0, 5.0), listOf(5.0, Double.NaN))) {
            assertThrows<DeviceException> { Controller(latencies.map { Point(it) }, Budgets(10.0)) }
        }
    }

    @Test
    fun keepsServingWhenNothingFits() {
        val controller = Controller(points, Budgets(4.9))
        assertEquals(0, controller.point)
        assertEquals(Cause.NOTHING_FITS, controller.decision.cause)
    }

    @Test
    fun ignoresWhatIsNoNumber() {
        val controller = Controller(points, Budgets(9.0))
        val before = controller.decision
        repeat(50) { index ->
            for (wrong in listOf(Double.NaN, -1.0, 0.0, Double.POSITIVE_INFINITY)) {
                assertFalse(controller.observe(index.toDouble(), wrong))
                val signals = Signals(wrong, wrong, wrong, wrong, wrong, wrong, null, wrong)
                assertFalse(controller.sense(Double.NaN, signals))
            }
        }
        assertEquals(before, controller.decision)
        repeat(10) { controller.observe(Double.NaN, 40.0) } // the time goes on by what inferences take
        assertEquals(0, controller.point)
    }
}
