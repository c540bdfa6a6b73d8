package io.adaptivenet.android

import android.content.ComponentCallbacks
import android.content.Context
import android.content.ContextWrapper
import java.io.File

/** A context without services, as that of an odd device. */
internal class Bare(private val files: File, private val apk: String = "one.apk") : ContextWrapper(null) {
    val registered = ArrayList<ComponentCallbacks>()

    override fun getApplicationContext(): Context = this

    override fun getNoBackupFilesDir(): File = files

    override fun getPackageName(): String = "an.app"

    override fun getPackageCodePath(): String = apk

    override fun getSystemService(name: String): Any? = null

    override fun getSystemServiceName(serviceClass: Class<*>): String? = null

    override fun registerComponentCallbacks(callback: ComponentCallbacks) {
        registered += callback
    }

    override fun unregisterComponentCallbacks(callback: ComponentCallbacks) {
        registered -= callback
    }
}
