package io.adaptivenet.android

import android.app.ActivityManager
import android.app.ApplicationExitInfo
import android.content.Context
import android.os.Build
import io.adaptivenet.AdaptiveModel
import io.adaptivenet.Calibration
import io.adaptivenet.Options
import io.adaptivenet.bundle.BundledProfile
import java.io.File

private const val SAYS_WHY_IT_ENDED = 30 // Android 11

/** Opens models from the bundles that `adaptivenet-export --bundle android` writes. From Kotlin: `AdaptiveModel.create`. */
public object AndroidModels {
    /**
     * Opens the bundle in the assets' folder [name]. The first time after an update of the app it is unpacked to the app's
     * `noBackupFilesDir`, which takes as long as copying it; later that is one look.
     *
     * The profile is that which a [BundleCalibration] has made on this device; before, that of its own system on a chip, else
     * of one of the same series, else the bundle's default. What the device takes longer than that says is learned while it
     * serves. The model is told of heat, memory and energy until it is closed. A program that has ended the app when it was
     * tried is not tried again, unless [options] has a watch of its own.
     *
     * Blocks: call it from a thread that may. Throws [io.adaptivenet.PackException] for a bundle that is missing or damaged,
     * [io.adaptivenet.DeviceException] where there is no room for it, and what `AdaptiveModel.create` throws.
     */
    @JvmStatic
    @JvmOverloads
    public fun create(context: Context, name: String, options: Options = Options()): AdaptiveModel =
        open(context, unpacked(context, name), options)

    internal fun unpacked(context: Context, name: String): Unpacked =
        Unpacker(File(homeOf(context), "bundles")).unpack(AssetFiles(context.assets, name))

    /**
     * The same for a bundle that lies in a folder, and is used there: the path of an asset pack of Google Play
     * (`AssetPackLocation.assetsPath`) and the bundle's name in it, or files that the app has fetched. They must not change
     * while the model is open. Blocks as well.
     */
    @JvmStatic
    @JvmOverloads
    public fun create(context: Context, folder: File, options: Options = Options()): AdaptiveModel =
        open(context, Unpacker.inPlace(folder), options)

    /** The profile of a bundle in a folder that this device begins with. May block. Throws [io.adaptivenet.PackException]. */
    @JvmStatic
    public fun profileOf(folder: File): BundledProfile = Unpacker.inPlace(folder).index.profileFor(socOfThisDevice())

    private fun open(context: Context, bundle: Unpacked, options: Options): AdaptiveModel {
        val app = context.applicationContext ?: context // an activity would live as long as the model
        val profile = Calibration.profileFor(profileIn(bundle), calibratedIn(app, bundle), thisDevice(app), options)
        val model = AdaptiveModel.create(bundle.folder, profile, watched(app, bundle, options))
        try {
            watchDevice(app, model)
        } catch (error: Throwable) {
            model.close()
            throw error
        }
        return model
    }

    internal fun homeOf(context: Context) = File(context.noBackupFilesDir, "adaptivenet")

    /** The profile that this device begins with. */
    internal fun profileIn(bundle: Unpacked) = File(bundle.folder, bundle.index.profileFor(socOfThisDevice()).file)

    /** Where what is measured on this device lies: beside the bundles, some of which lie where nothing can be written. */
    internal fun calibratedIn(context: Context, bundle: Unpacked) =
        File(homeOf(context), "calibrated/${bundle.index.name}")

    /** The same options with the app's memory of crashes, unless they have a watch. */
    internal fun watched(context: Context, bundle: Unpacked, options: Options) = Options(
        budget = options.budget,
        percentile = options.percentile,
        memoryMb = options.memoryMb,
        energyMj = options.energyMj,
        threads = options.threads,
        engine = options.engine,
        ofAnotherDevice = options.ofAnotherDevice,
        loadWatch = options.loadWatch ?: canaryOf(context, bundle),
    )

    private fun canaryOf(context: Context, bundle: Unpacked): Canary {
        // An update of the app, which gets another path, brings another engine, and one of the system other drivers.
        val about = "${bundle.index.digest} ${Build.FINGERPRINT} ${context.packageCodePath}"
        val folder = File(homeOf(context), "canary/${bundle.index.name}")
        return Canary(folder, about) { endedWell(context) }
    }

    /** Whether Android says of the last process of this app that it was ended by somebody, and did not crash. */
    private fun endedWell(context: Context): Boolean {
        if (Build.VERSION.SDK_INT < SAYS_WHY_IT_ENDED) return false
        val activities = context.getSystemService(ActivityManager::class.java) ?: return false
        val last = activities.getHistoricalProcessExitReasons(context.packageName, 0, 1).firstOrNull() ?: return false
        return isGoodEnd(last.reason)
    }

    internal fun isGoodEnd(reason: Int): Boolean = reason in setOf(
        ApplicationExitInfo.REASON_EXIT_SELF,
        ApplicationExitInfo.REASON_LOW_MEMORY,
        ApplicationExitInfo.REASON_USER_REQUESTED,
        ApplicationExitInfo.REASON_USER_STOPPED,
        ApplicationExitInfo.REASON_PERMISSION_CHANGE,
        ApplicationExitInfo.REASON_DEPENDENCY_DIED,
    )
}

/** See [AndroidModels.create]. */
@JvmSynthetic
public fun AdaptiveModel.Companion.create(
    context: Context,
    name: String,
    options: Options = Options(),
): AdaptiveModel = AndroidModels.create(context, name, options)

/** See [AndroidModels.create]. */
@JvmSynthetic
public fun AdaptiveModel.Companion.create(
    context: Context,
    folder: File,
    options: Options = Options(),
): AdaptiveModel = AndroidModels.create(context, folder, options)
