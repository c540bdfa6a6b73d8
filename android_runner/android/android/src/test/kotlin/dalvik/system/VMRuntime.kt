package dalvik.system

/** In the place of Android's own class, whose methods are native, like `SystemProperties` here. */
@Suppress("unused", "RedundantSuppression") // Build calls them
internal class VMRuntime private constructor() {
    fun is64Bit(): Boolean = true

    companion object {
        private val runtime = VMRuntime()

        @JvmStatic
        fun getRuntime(): VMRuntime = runtime
    }
}
