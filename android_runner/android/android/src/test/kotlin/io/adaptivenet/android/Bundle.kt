package io.adaptivenet.android

import io.adaptivenet.testing.Answers
import java.io.File
import java.io.InputStream

/** What Python has bundled before the tests run (tests/app_bundle.py); Maven says where it is. */
internal val BUNDLE = File(System.getProperty("adaptivenet.bundle"))

/** What Python answers with it. */
internal fun answers() = Answers(File(BUNDLE, "answers.json"))

/** The folder that an app would have in its assets. */
internal val ASSETS = File(BUNDLE, "app/assets/tiny")

/** The files of a bundle, some of them changed: what [change] returns for a path and its content. Null: it is missing. */
internal class Changed(private val change: (String, ByteArray) -> ByteArray?) : BundleFiles {
    var opened = 0
        private set

    override fun open(path: String): InputStream {
        opened++
        val content = change(path, File(ASSETS, path).readBytes()) ?: throw java.io.FileNotFoundException(path)
        return content.inputStream()
    }
}

internal fun unchanged() = Changed { _, content -> content }

/** Every file within a folder, by its path. */
internal fun contents(folder: File): Map<String, List<Byte>> = folder.walkTopDown().filter { it.isFile }
    .associate { it.relativeTo(folder).path to it.readBytes().toList() }
