package io.adaptivenet.serving

import io.adaptivenet.DeviceException
import io.adaptivenet.LoadWatch
import io.adaptivenet.TensorBuffer
import io.adaptivenet.engine.Border
import io.adaptivenet.engine.Engine
import io.adaptivenet.engine.Feature
import io.adaptivenet.engine.Part
import io.adaptivenet.engine.Program
import io.adaptivenet.graph.DType
import io.adaptivenet.graph.TensorType
import io.adaptivenet.pack.Pack

/**
 * What is loaded as one program: a block, or where the engine makes one program of several, a whole subnet. [name] is
 * that of the block; of a subnet, its blocks with a space between. [bytes] are those of the artifacts.
 */
internal data class Piece(val name: String, val blocks: List<String>, val bytes: Long)

/** Makes what runs of the blocks of a pack: which programs a subnet has, how each is loaded, and their chain. */
internal class Assembler(val pack: Pack, val engine: Engine, private val watch: LoadWatch? = null) {
    init {
        pack.artifact(pack.graph.oracle.first(), engine.backend) // throws when the pack has none for the engine
    }

    /** In the order in which they run. */
    fun pieces(subnet: List<String>): List<Piece> =
        if (engine.joinsBlocks) listOf(piece(subnet)) else subnet.map { piece(listOf(it)) }

    private fun piece(blocks: List<String>) =
        Piece(blocks.joinToString(" "), blocks, blocks.sumOf { pack.artifact(it, engine.backend).bytes })

    /** Reads, checks and loads the programs of a piece. May block. */
    fun load(piece: Piece): Program {
        val parts = piece.blocks.map { part(it) }
        if (watch == null) return engine.load(parts)
        var loaded: Program? = null
        watch.watch(piece.blocks) { loaded = engine.load(parts).also { tryOut(it, parts) } }
        return loaded ?: throw DeviceException("a subnet does not load: whoever watches it did not let it")
    }

    /** Runs a program once, on zeros, so that one that ends the process does so under watch. */
    private fun tryOut(program: Program, parts: List<Part>) {
        val given = HashSet<Int>()
        val inputs = ArrayList<Feature>()
        try {
            for (part in parts) {
                part.takes.filter { given.add(it.cut) }.forEach { inputs += engine.wrap(TensorBuffer(it.type)) }
                given += part.gives.cut
            }
            program.run(inputs, null).close()
        } catch (error: Throwable) {
            program.close()
            throw error
        } finally {
            inputs.forEach { it.close() }
        }
    }

    private fun part(name: String): Part {
        val block = pack.graph[name]
        val artifact = pack.artifact(name, engine.backend)
        return Part(
            "block '$name'",
            pack.path(artifact),
            pack.read(artifact),
            artifact.layout,
            pack.graph.reads(block).map { border(it) },
            border(block.end),
        )
    }

    /**
     * The program of a metric that compares outputs alone: it takes as many tensors like an output as it has operands,
     * in their order, and gives its sums. May block.
     */
    fun loadMetric(name: String): Program {
        val metric = pack.metrics.getValue(name)
        val artifact = metric.artifacts.getValue(engine.backend)
        val output = border(pack.graph.end)
        val takes = metric.operands.map { output }
        val gives = Border(0, sumsOf(name))
        val file = pack.path(artifact)
        return engine.loadMetric(Part("metric '$name'", file, pack.read(artifact), artifact.layout, takes, gives))
    }

    /** What a metric gives. */
    fun sumsOf(name: String) = TensorType(listOf(pack.metrics.getValue(name).sums.size.toLong()), DType.FLOAT32)

    private fun border(cut: Int) = Border(cut, pack.graph.cuts[cut])

    /** The chain of a subnet; [programs] has those of its pieces, by their names. */
    fun chain(subnet: List<String>, programs: Map<String, Program>): Chain {
        val graph = pack.graph
        return Chain(
            pieces(subnet).map { piece ->
                val first = graph[piece.blocks.first()]
                val reads = if (engine.joinsBlocks) listOf(first.start) else graph.reads(first)
                Chain.Step(programs.getValue(piece.name), reads, graph[piece.blocks.last()].end)
            },
        )
    }
}

/**
 * The programs of a subnet, in order. Features stay in the engine's own tensors from the first to the last, and each is
 * closed when no later program reads it.
 */
internal class Chain(private val steps: List<Step>) {
    class Step(val program: Program, val reads: List<Int>, val gives: Int)

    private val lastRead: Map<Int, Int> = HashMap<Int, Int>().apply {
        steps.forEachIndexed { at, step -> step.reads.forEach { put(it, at) } }
    }

    /**
     * Runs on [input] and writes to [output]. How long that took, in milliseconds of the clock [nanoTime]: what the
     * controller observes, and what a calibration measures.
     */
    fun timed(
        engine: Engine,
        input: TensorBuffer,
        output: TensorBuffer,
        nanoTime: () -> Long = System::nanoTime,
    ): Double {
        val beginNs = nanoTime()
        engine.wrap(input).use { from -> engine.wrap(output).use { to -> run(from, to) } }
        return (nanoTime() - beginNs) / 1e6
    }

    /** Runs on the tensor at cut 0 and writes to [output]. Both stay the caller's. */
    fun run(input: Feature, output: Feature) {
        val features = HashMap<Int, Feature>()
        features[0] = input
        try {
            steps.forEachIndexed { at, step ->
                val operands = step.reads.map { features.getValue(it) }
                features[step.gives] = step.program.run(operands, output.takeIf { at == steps.lastIndex })
                step.reads.filter { it != 0 && lastRead[it] == at }.forEach { features.remove(it)?.close() }
            }
        } finally {
            features.values.forEach { if (it !== input && it !== output) it.close() }
        }
    }
}
