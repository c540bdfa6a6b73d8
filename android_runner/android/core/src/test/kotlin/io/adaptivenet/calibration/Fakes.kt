package io.adaptivenet.calibration

import io.adaptivenet.DeviceException
import io.adaptivenet.TensorBuffer
import io.adaptivenet.engine.Engine
import io.adaptivenet.engine.EngineProvider
import io.adaptivenet.engine.Feature
import io.adaptivenet.engine.Part
import io.adaptivenet.engine.Program
import java.util.concurrent.CountDownLatch

/** A clock that only goes on when something takes time. */
internal class FakeClock : Clock {
    var ns = 0L
    var waits = 0

    fun pass(ms: Double) {
        ns += (ms * 1e6).toLong()
    }

    override fun nanoTime(): Long = ns

    override fun await(end: CountDownLatch, ms: Long): Boolean {
        waits++
        pass(ms.toDouble())
        return end.count == 0L
    }
}

/** An engine that computes nothing. A block takes [ms] of the clock to run, and a program [loadMs] to load. */
internal class FakeEngine(
    private val clock: FakeClock,
    override val joinsBlocks: Boolean,
    override val version: String? = "1.0",
    private val loadMs: Double = 5.0,
    private val ms: (String) -> Double,
) : EngineProvider, Engine {
    val loads = ArrayList<String>()
    var loaded = 0
    var most = 0
    var runs = 0
    var onRun: () -> Unit = { }
    val failing = HashSet<String>()

    override val name: String get() = "onnxruntime"
    override val backend: String get() = "onnx"

    override fun open(threads: Int): Engine = this

    override fun load(parts: List<Part>): Program {
        val blocks = parts.map { it.what.removeSurrounding("block '", "'") }
        clock.pass(loadMs)
        blocks.firstOrNull { it in failing }?.let { throw DeviceException("$it does not load") }
        loads += blocks.joinToString(" ")
        most = maxOf(most, ++loaded)
        return object : Program {
            override fun run(inputs: List<Feature>, output: Feature?): Feature {
                runs++
                onRun()
                blocks.forEach { clock.pass(ms(it)) }
                return output ?: object : Feature {
                    override fun close() = Unit
                }
            }

            override fun close() {
                loaded--
            }
        }
    }

    override fun wrap(buffer: TensorBuffer): Feature = object : Feature {
        override fun close() = Unit
    }

    override fun close() = Unit
}
