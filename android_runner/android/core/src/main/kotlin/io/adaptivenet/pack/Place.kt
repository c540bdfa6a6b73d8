package io.adaptivenet.pack

import io.adaptivenet.PackException
import io.adaptivenet.json.Json
import io.adaptivenet.json.isControl
import io.adaptivenet.json.number
import io.adaptivenet.json.quote
import io.adaptivenet.json.shown
import io.adaptivenet.json.text

/** A value and where it stands in the manifest, so that a message can say `$.blocks[3].macs`. */
internal class Place(val value: Json, private val outer: Place? = null, private val step: String = "$") {
    private val path: String get() = (outer?.path ?: "") + step

    fun field(name: String, value: Json): Place = Place(value, this, ".$name")

    fun item(at: Int, value: Json): Place = Place(value, this, "[$at]")

    fun refuse(what: String): Nothing = throw PackException("manifest.json: $path: $what")

    fun require(holds: Boolean, rule: String) {
        if (!holds) refuse("${shown(value)} is not $rule")
    }
}

/** What a value must be; refuses it otherwise. */
internal typealias Rule = (Place) -> Unit

private const val LONGEST_LINE = 4096 // characters

internal fun isDigest(text: String): Boolean = text.length == 64 && text.all { it in '0'..'9' || it in 'a'..'f' }

internal fun isName(text: String): Boolean {
    fun isFirst(it: Char) = it in 'a'..'z' || it in '0'..'9' || it in 'A'..'Z'
    return text.length in 1..64 && isFirst(text[0]) && text.all { isFirst(it) || it == '_' || it == '-' }
}

internal fun isLine(text: String): Boolean {
    var length = 0
    var at = 0
    while (at < text.length) {
        val next = text.codePointAt(at)
        if (isControl(next) || ++length > LONGEST_LINE) return false
        at += Character.charCount(next)
    }
    return true
}

private fun isKind(text: String): Boolean = text.length in 1..32 && text[0] in 'a'..'z' &&
    text.all { it in 'a'..'z' || it in '0'..'9' || it == '_' || it == '-' }

private fun isBlob(text: String): Boolean {
    if (!text.startsWith(BLOBS) || text.length < BLOBS.length + 64) return false
    val suffix = text.substring(BLOBS.length + 64)
    return isDigest(text.substring(BLOBS.length, BLOBS.length + 64)) && (suffix == ".pte" || suffix == ".onnx")
}

/** Short digests, of pictures: 8 characters of base64 each. Nothing here uses them. */
private fun isDigests(text: String): Boolean = text.length % 8 == 0 && text.length <= 131072 &&
    text.all { it in 'a'..'z' || it in 'A'..'Z' || it in '0'..'9' || it == '+' || it == '/' }

private fun isTitle(text: String): Boolean =
    isLine(text) && text.isNotEmpty() && text.codePointCount(0, text.length) <= 200

private fun isUnit(text: String): Boolean = isLine(text) && text.codePointCount(0, text.length) <= 16

private fun text(rule: String, holds: (String) -> Boolean): Rule =
    { place -> place.require(place.value.text?.let(holds) == true, rule) }

internal val digest: Rule = text("a digest of 64 hexadecimal digits", ::isDigest)
internal val digests: Rule = text("digests of 8 characters of base64 each", ::isDigests)
internal val name: Rule = text("a name of letters, digits, '-' and '_'", ::isName)
internal val kind: Rule = text("a kind of lower-case letters, digits, '-' and '_'", ::isKind)
internal val blob: Rule = text("'blobs/', 64 hexadecimal digits, and '.pte' or '.onnx'", ::isBlob)
internal val line: Rule = text("a line of text without control characters", ::isLine)
internal val title: Rule = text("a line of 1 to 200 characters", ::isTitle)

internal val unit: Rule = text("a line of at most 16 characters", ::isUnit)

internal fun oneOf(vararg known: String): Rule = text("one of ${known.joinToString(" ")}") { it in known }

internal fun whole(low: Long, high: Long? = null): Rule = { place ->
    val value = (place.value as? Json.Whole)?.value
    val rule = "a whole number from $low " + (high?.let { "to $it" } ?: "on")
    place.require(value != null && value >= low && (high == null || value <= high), rule)
}

private fun number(rule: String, holds: (Double) -> Boolean): Rule =
    { place -> place.require(place.value.number?.let(holds) == true, rule) }

internal val anyNumber: Rule = number("a number") { true }
internal val positive: Rule = number("a number above 0") { it > 0 }
internal val atLeastZero: Rule = number("a number that is at least 0") { it >= 0 }
internal val share: Rule = number("a number from 0 to 1") { it in 0.0..1.0 }
internal val end: Rule = number("a number from -1e9 to 1e9") { it in -1e9..1e9 }

internal fun nullable(rule: Rule): Rule = { place -> if (place.value != Json.Null) rule(place) }

internal fun list(rule: Rule, fewest: Int, most: Int): Rule = { place ->
    val values = (place.value as? Json.Items)?.values ?: place.refuse("${shown(place.value)} is not a list")
    if (values.size !in fewest..most) place.refuse("has ${values.size} entries; there are $fewest to $most")
    values.forEachIndexed { at, value -> rule(place.item(at, value)) }
}

/** An object whose keys are chosen by whoever made the pack. */
internal fun mapping(isKey: (String) -> Boolean, rule: Rule, most: Int): Rule = { place ->
    place.require(place.value is Json.Fields, "an object")
    val values = (place.value as Json.Fields).values
    if (values.size > most) place.refuse("has more than $most fields")
    for ((key, value) in values) {
        if (!isKey(key)) place.refuse("the name ${quote(key)} is not allowed")
        rule(place.field(key, value))
    }
}

internal class Field(val name: String, val rule: Rule, val isOptional: Boolean = false)

/** An object with these fields and no others. */
internal fun fields(vararg known: Field): Rule = { place ->
    place.require(place.value is Json.Fields, "an object")
    val values = (place.value as Json.Fields).values
    values.keys.firstOrNull { key -> known.none { it.name == key } }?.let { place.refuse("unknown field ${quote(it)}") }
    for (field in known) {
        val value = values[field.name]
        when {
            value != null -> field.rule(place.field(field.name, value))
            !field.isOptional -> place.refuse("the field '${field.name}' is missing")
        }
    }
}
