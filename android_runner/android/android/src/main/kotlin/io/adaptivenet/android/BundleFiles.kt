package io.adaptivenet.android

import android.content.res.AssetManager
import java.io.File
import java.io.IOException
import java.io.InputStream

/** Where the files of a bundle lie before it is unpacked. */
public fun interface BundleFiles {
    /** The content of the file at [path] within the bundle. Throws [IOException] where there is none. May block. */
    public fun open(path: String): InputStream
}

/** A bundle in the assets of an app, in the folder [name]. */
internal class AssetFiles(private val assets: AssetManager, private val name: String) : BundleFiles {
    override fun open(path: String): InputStream = assets.open("$name/$path", AssetManager.ACCESS_STREAMING)
}

/** A bundle in a folder: of files that an app has fetched itself, or of an asset pack of Google Play. */
internal class FolderFiles(private val folder: File) : BundleFiles {
    override fun open(path: String): InputStream = File(folder, path).inputStream()
}
