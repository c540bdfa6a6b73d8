package io.adaptivenet.android

import java.io.File

/** What Python answers with the bundle (tests/app_bundle.py). */
internal class Answers(val input: FloatArray, val subnets: List<List<String>>, val outputs: List<FloatArray>) {
    companion object {
        private val NUMBER = Regex("-?[0-9.]+(?:e-?[0-9]+)?")

        /** The file is ours: three fields, of which the names have no brackets. */
        fun read(): Answers {
            val text = File(BUNDLE, "answers.json").readText()
            fun field(name: String) = text.substringAfter("\"$name\": ").substringBefore(", \"outputs\"")
            fun numbers(part: String) = NUMBER.findAll(part).map { it.value.toFloat() }.toList().toFloatArray()
            fun lists(part: String) = Regex("""\[([^\[\]]+)]""").findAll(part).map { it.groupValues[1] }.toList()
            return Answers(
                numbers(field("input").substringBefore("]")),
                lists(field("subnets")).map { each -> Regex("\"([^\"]+)\"").findAll(each).map { it.groupValues[1] }.toList() },
                lists(text.substringAfter("\"outputs\": ")).map(::numbers),
            )
        }
    }
}
