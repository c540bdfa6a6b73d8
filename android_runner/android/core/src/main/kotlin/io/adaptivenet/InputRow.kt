package io.adaptivenet

import io.adaptivenet.graph.DType
import io.adaptivenet.graph.TensorType
import io.adaptivenet.json.quote

private const val LARGEST = 1 shl 24 // up to it float32 has every whole number

/**
 * One of a network's inputs: its [name] in the network's `forward`, its shape at batch size 1, and what it is made of:
 * float32, int64, int32 or bool.
 */
public class Input(public val name: String, public val type: TensorType)

/**
 * What a network with several [inputs] reads, or one whose input is no float32 tensor: one row of float32 numbers that
 * holds them one after another (docs/pack.md). Each is written by its name, row-major, at batch size 1, as values of
 * its own type or of one that can be told apart in it, in the words and by the rules of Python's `BlockPack.row`. What
 * was written stays until it is written again. Writing allocates nothing, and what is refused changes nothing.
 *
 * Not for two threads at a time. [row] is the memory that is written to, which stays the caller's; throws
 * [DataException] where there are no inputs, or the row holds other numbers than they do.
 */
public class InputRow(public val inputs: List<Input>, private val row: TensorBuffer) {
    private class Place(val input: Input, val start: Int) {
        val count = input.type.elements
        var isWritten = false
    }

    private val places: Array<Place>
    private val floats = row.floats

    init {
        if (inputs.isEmpty()) {
            throw DataException(
                "the network has one input, which has no name: it reads one tensor, of the shape of cut 0",
            )
        }
        var start = 0
        places = Array(inputs.size) { at -> Place(inputs[at], start).also { start += it.count } }
        if (start != row.type.elements) throw DataException("$start numbers of inputs do not fill a row of ${row.type}")
    }

    /** The row, as models take it. Throws [DataException] while an input has never been written. */
    public val buffer: TensorBuffer
        get() {
            for (place in places) if (!place.isWritten) refuseWithout(place.input)
            return row
        }

    /**
     * Writes whole numbers to an input of whole numbers, or of float32 ones, which may round them. Throws
     * [DataException] for a name that no input has, for another number of values than it has, for an input of truth
     * values, and for one of whole numbers where a number is beyond 16,777,216, which float32 does not have.
     */
    public fun write(name: String, values: LongArray): Unit =
        write(name, DType.INT64, values.size, { values[it] in -LARGEST..LARGEST }, { values[it].toFloat() })

    /** The same of whole numbers of 32 bits. */
    public fun write(name: String, values: IntArray): Unit =
        write(name, DType.INT32, values.size, { values[it] in -LARGEST..LARGEST }, { values[it].toFloat() })

    /** Writes truth values, as 0 and 1, to an input of any type. Throws [DataException] for another name or number. */
    public fun write(name: String, values: BooleanArray): Unit =
        write(name, DType.BOOL, values.size, { true }, { if (values[it]) 1f else 0f })

    /**
     * Writes float32 numbers to an input of these. Throws [DataException] for another name or number of them, for an
     * input of another type, and for values that are NaN or infinite.
     */
    public fun write(name: String, values: FloatArray): Unit =
        write(name, DType.FLOAT32, values.size, { values[it].isFinite() }, { values[it] })

    private inline fun write(name: String, given: DType, count: Int, fits: (Int) -> Boolean, value: (Int) -> Float) {
        val place = places.firstOrNull { it.input.name == name } ?: refuseName(name)
        val wanted = place.input.type.dtype
        if (count != place.count) refuse(name, "must have shape ${rows(place.input.type)}, not (1, $count)")
        if (!isHeld(given, wanted)) refuse(name, "has dtype ${given.label}; give ${wanted.label}")
        if (given == DType.FLOAT32 || wanted != DType.FLOAT32) {
            for (at in 0 until count) if (!fits(at)) refuseValue(name, given)
        }
        for (at in 0 until count) floats.put(place.start + at, value(at))
        place.isWritten = true
    }

    /** Whether values of a type are taken for an input of another one: as numpy's casts "of the same kind". */
    private fun isHeld(given: DType, wanted: DType): Boolean = given == wanted || given == DType.BOOL ||
        (given != DType.FLOAT32 && wanted != DType.BOOL)

    private fun rows(type: TensorType) = type.shape.drop(1).joinToString("") { ", $it" }.let { "(N$it)" }

    private fun refuse(name: String, what: String): Nothing = throw DataException("the row: ${quote(name)} $what")

    private fun refuseValue(name: String, given: DType): Nothing = refuse(
        name,
        if (given == DType.FLOAT32) {
            "holds NaN or infinite values; remove them"
        } else {
            "has whole numbers beyond $LARGEST, which cannot be told apart in float32"
        },
    )

    private fun refuseName(name: String): Nothing = throw DataException(
        "the row: there is no input ${quote(name)}; the network reads ${inputs.joinToString { it.name }}",
    )

    private fun refuseWithout(input: Input): Nothing {
        val held = places.filter { it.isWritten }.map { it.input.name }.sorted().joinToString().ifEmpty { "nothing" }
        throw DataException("the row has no array ${quote(input.name)}, which the network reads; it holds $held")
    }
}
