package io.adaptivenet.sample.stills

import android.graphics.Bitmap
import io.adaptivenet.DataException
import io.adaptivenet.TensorBuffer
import io.adaptivenet.pack.Preprocessing
import kotlin.math.roundToInt

/**
 * Writes a picture to a model's input as the pack says (docs/pack.md): resized, cropped in the middle, and normalised to
 * channels R, G, B. Android's own resizing is not antialiased as Pillow's is, so scores differ a little from Python's.
 * Throws [DataException] for a picture that does not cover the crop.
 */
internal fun write(picture: Bitmap, recipe: Preprocessing, input: TensorBuffer) {
    val short = recipe.resizeShort ?: minOf(picture.width, picture.height)
    val scale = short.toDouble() / minOf(picture.width, picture.height)
    val resized = Bitmap.createScaledBitmap(
        picture,
        (picture.width * scale).toInt().coerceAtLeast(short),
        (picture.height * scale).toInt().coerceAtLeast(short),
        true,
    )
    if (resized.width < recipe.width || resized.height < recipe.height) {
        throw DataException(
            "${picture.width} x ${picture.height} pixels do not cover the crop; choose a larger picture",
        )
    }
    val left = ((resized.width - recipe.width) / 2.0).roundToInt().coerceAtLeast(0)
    val top = ((resized.height - recipe.height) / 2.0).roundToInt().coerceAtLeast(0)
    val pixels = IntArray(recipe.width * recipe.height)
    resized.getPixels(pixels, 0, recipe.width, left, top, recipe.width, recipe.height)
    val values = FloatArray(3 * pixels.size)
    for (channel in 0..2) {
        val shift = 16 - 8 * channel
        for (at in pixels.indices) {
            val value = (pixels[at] shr shift and 0xFF) * recipe.scale
            values[channel * pixels.size + at] = ((value - recipe.mean[channel]) / recipe.std[channel]).toFloat()
        }
    }
    input.write(values)
}
