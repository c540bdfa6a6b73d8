package io.adaptivenet.android

import io.adaptivenet.Sensor
import io.adaptivenet.Signals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit.SECONDS
import java.util.concurrent.atomic.AtomicInteger

class SignalsTest {
    private fun heat(headroom: Double?, status: Int?) = HeatSource(object : Thermometer {
        override fun headroom() = headroom

        override fun status() = status
    })

    private fun energy(percent: Int?, charging: Boolean?, saving: Boolean?) = EnergySource(object : Power {
        override fun percent() = percent

        override fun isCharging() = charging

        override fun isSaving() = saving
    })

    @Test
    fun `heat is the headroom, or the status where that is worse or all there is`() {
        assertNull(heat(null, null).read())
        assertEquals(0.7, heat(0.7, null).read()?.headroom)
        assertEquals(0.7, heat(0.7, 0).read()?.headroom)
        assertEquals(1.2, heat(1.2, 3).read()?.headroom)
        assertEquals(1.0, checkNotNull(heat(0.7, 3).read()?.headroom), 1e-5)
        assertEquals(0.5, checkNotNull(heat(Double.NaN, 0).read()?.headroom), 1e-5)
        assertEquals(1.3, checkNotNull(heat(null, 9).read()?.headroom), 1e-5)
    }

    @Test
    fun `a headroom that is not told once is not made up`() {
        var told: Double? = 0.93
        val heat = HeatSource(object : Thermometer {
            override fun headroom() = told

            override fun status() = 0
        })
        assertEquals(0.93, heat.read()?.headroom)
        told = Double.NaN // asked too soon
        assertNull(heat.read())
    }

    @Test
    fun `what Android states is a state, what it measures is none`() {
        assertEquals(Signals(headroom = 1.0, states = setOf(Sensor.HEADROOM)), heat(null, 3).read())
        assertEquals(Signals(headroom = 1.2), heat(1.2, 3).read())
        assertEquals(setOf(Sensor.BATTERY), energy(80, false, true).read()?.states)
        val measured = Signals(headroom = 0.7)
        assertEquals(measured, together(listOf(measured, Signals(headroom = 1.0, states = setOf(Sensor.HEADROOM)))))
    }

    @Test
    fun `calls to give memory back are pressure for a while, and a hidden window is none`() {
        var nowNs = 0L
        val memory = MemorySource({ 740_000_000L }, { nowNs })
        assertEquals(Signals(freeMb = 740.0, pressure = 0.0, states = setOf(Sensor.PRESSURE)), memory.read())
        assertFalse(memory.trim(20))
        assertEquals(0.0, memory.read().pressure)
        assertTrue(memory.trim(15))
        assertTrue(memory.trim(5), "a milder call does not take back a harder one")
        assertEquals(60.0, checkNotNull(memory.read().pressure), 1e-3)
        nowNs = 16_000_000_000L
        assertEquals(0.0, memory.read().pressure)
        assertTrue(memory.trim(80))
        assertTrue(checkNotNull(memory.read().pressure) <= 100)
        assertNull(MemorySource({ null }).read().freeMb)
    }

    @Test
    fun `energy is the battery, as if it were low where Android saves`() {
        assertNull(energy(null, null, null).read())
        assertEquals(Signals(battery = 80.0, charging = true), energy(80, true, false).read())
        assertNull(energy(Int.MIN_VALUE, true, false).read()?.battery)
        val saving = checkNotNull(energy(80, true, true).read())
        assertTrue(checkNotNull(saving.battery) < 15)
        assertEquals(false, saving.charging)
        assertEquals(7.0, checkNotNull(energy(7, false, true).read()?.battery), 1e-3)
    }

    @Test
    fun `a watch tells what all sources say, at once when asked, until nobody listens`() {
        val told = java.util.concurrent.LinkedBlockingQueue<Signals>()
        val ended = CountDownLatch(1)
        val listens = AtomicInteger(2)
        val sources = listOf(
            SignalSource { Signals(headroom = 0.5) },
            SignalSource { throw SecurityException("a maker's own idea") },
            SignalSource { null },
            SignalSource { Signals(battery = 50.0, headroom = 0.9) },
        )
        val watch = DeviceWatch(sources, 3_600_000, ended::countDown) {
            told.put(it)
            listens.decrementAndGet() > 0
        }
        assertEquals(Signals(headroom = 0.5, battery = 50.0), told.poll(60, SECONDS))
        watch.look()
        assertEquals(0.5, told.poll(60, SECONDS)?.headroom)
        assertTrue(ended.await(60, SECONDS))
        watch.look()
        watch.close()
        assertTrue(told.isEmpty())
    }

    @Test
    fun `the chip is called as in a profile`() {
        assertEquals("SM8450", socOf("SM8450", "qcom", "taro"))
        assertEquals("sdm845", socOf(null, "qcom", "sdm845"))
        assertEquals("mt6785", socOf("unknown", "mt6785", "k85v1_64"))
        assertNull(socOf(null, "", " "))
    }

    @Test
    fun `a hint reports what inferences take, and nothing once it is closed`() {
        val said = ArrayList<String>()
        val hint = PerformanceHint(object : HintSession {
            override fun target(ns: Long) {
                said += "target $ns"
            }

            override fun report(ns: Long) {
                said += "report $ns"
            }

            override fun close() {
                said += "close"
            }
        })
        hint.ran(12.5)
        hint.setTarget(10.0)
        hint.ran(0.0)
        hint.close()
        hint.close()
        hint.ran(1.0)
        assertEquals(listOf("report 12500000", "target 10000000", "close"), said)
        assertFalse(PerformanceHint(null).isHeard)
    }
}
