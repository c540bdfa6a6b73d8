package io.adaptivenet

import io.adaptivenet.json.Json
import io.adaptivenet.json.number
import io.adaptivenet.json.parseJson
import io.adaptivenet.json.text
import java.io.File

/** The examples that Python's and C++'s tests read as well; Maven says where they are. */
internal fun vectors(name: String): Json = parseJson(File(System.getProperty("adaptivenet.vectors"), name).readBytes())

internal val Json.items: List<Json> get() = (this as Json.Items).values

internal operator fun Json.get(name: String): Json = checkNotNull((this as Json.Fields)[name]) { "no field $name" }

internal operator fun Json.contains(name: String): Boolean = name in (this as Json.Fields).values

internal operator fun Json.get(at: Int): Json = items[at]

internal val Json.double: Double get() = checkNotNull(number)

internal val Json.int: Int get() = (this as Json.Whole).value.toInt()

internal val Json.string: String get() = checkNotNull(text)

internal fun Json.numberOrNull(name: String): Double? = (this as Json.Fields)[name].number
