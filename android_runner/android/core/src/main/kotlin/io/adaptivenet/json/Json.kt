package io.adaptivenet.json

/**
 * A value of a JSON document, as this project reads it: a number that is written without a point and an exponent is a
 * [Whole], every other one is a [Decimal], and the fields of an object come in the order of their code points.
 */
internal sealed interface Json {
    object Null : Json

    data class Flag(val value: Boolean) : Json

    data class Whole(val value: Long) : Json

    data class Decimal(val value: Double) : Json

    data class Text(val value: String) : Json

    data class Items(val values: List<Json>) : Json

    data class Fields(val values: Map<String, Json>) : Json {
        operator fun get(name: String): Json? = values[name]
    }
}

/** An object with these fields, in their order. */
internal fun fieldsOf(values: Map<String, Json>): Json.Fields = Json.Fields(values.toSortedMap(ByCodePoint))

/** The number of a [Json.Whole] or [Json.Decimal]; null for everything else. */
internal val Json?.number: Double?
    get() = when (this) {
        is Json.Whole -> value.toDouble()
        is Json.Decimal -> value
        else -> null
    }

internal val Json?.text: String? get() = (this as? Json.Text)?.value

/** The order in which canonical JSON has the fields of an object. UTF-16, in which Java compares, has another one. */
internal object ByCodePoint : Comparator<String> {
    override fun compare(one: String, other: String): Int {
        var at = 0
        while (at < one.length && at < other.length && one[at] == other[at]) at++
        if (at == one.length || at == other.length) return one.length.compareTo(other.length)
        // Half of a pair stands for a character above all that fit into one unit.
        val both = one[at].isSurrogate() == other[at].isSurrogate()
        return if (both) one[at].compareTo(other[at]) else one[at].isSurrogate().compareTo(other[at].isSurrogate())
    }
}
