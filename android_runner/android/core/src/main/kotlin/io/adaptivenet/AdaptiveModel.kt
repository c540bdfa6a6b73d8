package io.adaptivenet

import io.adaptivenet.engine.Engine
import io.adaptivenet.engine.providerNamed
import io.adaptivenet.graph.Layout
import io.adaptivenet.graph.TensorType
import io.adaptivenet.pack.Pack
import io.adaptivenet.profile.ServedProfile
import io.adaptivenet.profile.readProfile
import io.adaptivenet.serving.Assembler
import io.adaptivenet.serving.Loader
import java.io.Closeable
import java.io.File
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/**
 * A pack and a profile, open to infer with. It runs the best point of the profile's front for its budgets, watches how
 * long inferences take and what it is told of the device, and goes to another point when that changes. A thread of its
 * own loads what shall serve next beside what serves; the swap is between two inferences.
 *
 * Every function may be called from any thread; several threads that infer take turns. Functions return at once unless
 * they say that they may block. A model that is closed throws [IllegalStateException].
 */
public class AdaptiveModel private constructor(
    /** The pack that serves. */
    public val pack: Pack,
    private val profile: ServedProfile,
    private val engine: Engine,
    budgets: Budgets,
    watch: LoadWatch?,
) : Closeable {
    /** The points that may serve: those of the profile's front that are better than all faster ones, fastest first. */
    public val points: List<Point> = profile.points.map { it.costs }

    /** What the whole network took when it was profiled, in milliseconds: what budgets in percent are shares of. */
    public val wholeMs: Double get() = profile.wholeMs

    private val input = pack.graph.cuts.first()
    private val output = pack.graph.cuts.last()
    private val turn = ReentrantLock() // of inferences, and of closing
    private val deciding = ReentrantLock() // guards the two below
    private var budgets = budgets
    private var isClosed = false
    private val loader = Loader(
        Assembler(pack, engine, watch),
        profile.points,
        budgets,
        budgets.memoryMb?.let { (it * 1e6).toLong() },
    )

    /**
     * A buffer for what [run] takes: memory outside of the Java heap, zeros at first. Pictures lie in it channels by
     * channels, or as [layout] says: with [Layout.CHANNELS_LAST] pixel by pixel.
     */
    @JvmOverloads
    public fun createInputBuffer(layout: Layout = Layout.CONTIGUOUS): TensorBuffer = TensorBuffer(input, layout)

    /**
     * What [run] takes of a network with several inputs, those of [Pack.inputs], or with one of whole numbers: each is
     * written by its name. Throws [DataException] where the pack names none.
     */
    public fun createInputRow(): InputRow = InputRow(pack.inputs, createInputBuffer())

    /** A buffer for what [run] gives; a picture comes channels by channels, or as [layout] says. */
    @JvmOverloads
    public fun createOutputBuffer(layout: Layout = Layout.CONTIGUOUS): TensorBuffer = TensorBuffer(output, layout)

    /**
     * Runs the subnet that serves on [input] and writes to [output], both from this model's `create…Buffer`. Never
     * waits for a load; waits for inferences of other threads. Throws [DataException] for buffers of another type,
     * [DeviceException] when the engine fails.
     */
    public fun run(input: TensorBuffer, output: TensorBuffer): Inference {
        requireType("the input", input, this.input)
        requireType("the output", output, this.output)
        turn.withLock {
            requireOpen()
            val ready = loader.slot.take() ?: throw DeviceException("no subnet serves: none could be loaded")
            var ms: Double? = null
            try {
                ms = ready.chain.timed(engine, input, output)
            } finally {
                loader.ran(ready, ms)
            }
            return Inference(ms, ready.target.point)
        }
    }

    /** The same on a row of inputs. Throws [DataException] as well while one of them has never been written. */
    public fun run(input: InputRow, output: TensorBuffer): Inference = run(input.buffer, output)

    private fun requireType(what: String, buffer: TensorBuffer, wanted: TensorType) {
        if (buffer.type != wanted) throw DataException("$what is ${buffer.type}; the pack's is $wanted")
    }

    /**
     * Other budgets from now on; what is null is as before. The controller decides again, also after [activate]: the
     * swap follows, see [await]. The limit of what is loaded stays as it was when the model was opened. Throws
     * [BudgetException] for budgets that are no positive numbers, and leaves them as they were.
     *
     * @param budget of an inference, from the caller's input to the caller's output
     * @param percentile of all inferences that shall keep within [budget], 50 to 99
     * @param memoryMb what a point may keep resident, in 10^6 bytes, where the profile knows
     * @param energyMj what an inference may take, in millijoules, where the profile knows
     */
    @JvmOverloads
    public fun setBudget(
        budget: Budget,
        percentile: Double? = null,
        memoryMb: Double? = null,
        energyMj: Double? = null,
    ) {
        deciding.withLock {
            requireOpen()
            budgets = Budgets(
                budget.ms(wholeMs),
                percentile ?: budgets.percentile,
                memoryMb ?: budgets.memoryMb,
                energyMj ?: budgets.energyMj,
            )
            loader.want(budgets)
        }
    }

    /**
     * This one of [points] serves as soon as it is loaded, whatever the budget, until [setBudget]. See [await]. Throws
     * [GraphException] where there is no such point.
     */
    public fun activate(point: Int) {
        if (point !in points.indices) throw GraphException("there is no point $point: the model has ${points.size}")
        activate(profile.points[point].subnet)
    }

    /**
     * The same for a subnet of the pack, as the names of its blocks in order. Throws [GraphException] for what is none.
     */
    public fun activate(subnet: List<String>) {
        requireOpen()
        loader.want(subnet.toList())
    }

    /**
     * What sensors say now, to be told at any rate, such as every few seconds; the model's own thread decides. A model
     * that `AndroidModels` has opened is told by itself.
     */
    public fun observe(signals: Signals) {
        requireOpen()
        loader.sense(signals)
    }

    /** What serves now, and why. */
    public val status: Status
        get() {
            requireOpen()
            val now = loader.state
            return Status(
                subnet = now.serving?.subnet.orEmpty(),
                point = now.serving?.point,
                loading = now.loading?.subnet.orEmpty(),
                slowdown = now.slowdown,
                residentBytes = now.bytes,
                switches = now.switches,
                why = now.why,
                error = now.error,
            )
        }

    /**
     * Waits until what was asked for serves, or another point in its place; false when that takes longer than
     * [timeoutMs]. Blocks. Throws the error of loading when what was asked for by name cannot be loaded, or when
     * nothing serves at all.
     */
    @JvmOverloads
    public fun await(timeoutMs: Long = Long.MAX_VALUE): Boolean {
        requireOpen()
        return loader.await(timeoutMs)
    }

    /**
     * Releases everything, after the inference and the load that are on. Blocks until then. A second time it does
     * nothing. Throws [IllegalStateException] where a [LoadWatch] calls it.
     */
    override fun close() {
        loader.requireOtherThread()
        turn.withLock {
            deciding.withLock {
                if (isClosed) return
                isClosed = true
            }
            loader.close()
            engine.close()
        }
    }

    private fun requireOpen() {
        deciding.withLock { check(!isClosed) { "the model is closed" } }
    }

    public companion object {
        /**
         * Opens the pack in [folder] with the profile in a file, and returns when a subnet serves: the best one for the
         * budget, or the next best where that cannot be loaded. When nothing fits the budget, the fastest serves, and
         * [status] says so.
         *
         * Blocks: it reads files, checks digests and loads programs. The files in [folder] must not change while the
         * model is open. Throws [PackException] and [ProfileException] for what cannot be read or does not belong
         * together, as a profile of another engine or number of threads unless [Options.ofAnotherDevice],
         * [BudgetException] for budgets of [options] that are no positive numbers, and [DeviceException] when the
         * engine is not in the app or no subnet can be loaded.
         */
        @JvmStatic
        @JvmOverloads
        public fun create(folder: File, profile: File, options: Options = Options()): AdaptiveModel {
            val pack = Pack.open(folder)
            val known = readProfile(profile)
            known.requireMadeFor(pack)
            val provider = options.engine ?: providerNamed(known.engine)
            val threads = options.threads ?: known.threads
            if (!options.ofAnotherDevice) known.requireSameDevice(provider.name, threads)
            val budgets =
                Budgets(options.budget.ms(known.wholeMs), options.percentile, options.memoryMb, options.energyMj)
            val engine = provider.open(threads)
            val model = try {
                AdaptiveModel(pack, known, engine, budgets, options.loadWatch)
            } catch (error: Throwable) {
                engine.close()
                throw error
            }
            try {
                model.await()
            } catch (error: Throwable) {
                model.close()
                throw error
            }
            return model
        }
    }
}
