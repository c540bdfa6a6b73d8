package io.adaptivenet

import io.adaptivenet.json.quote

private val WRITTEN = Regex("""([0-9]+(?:\.[0-9]+)?)\s*(%|ms)""")

/** What an inference may take: milliseconds, or a share of what the whole network took when it was profiled. */
public class Budget private constructor(
    private val text: String,
    private val value: Double,
    private val isShare: Boolean,
) {
    init {
        if (!(value.isFinite() && value > 0)) refuse(text)
    }

    /** In milliseconds, for a whole network that takes [wholeMs]. */
    public fun ms(wholeMs: Double): Double = if (isShare) value / 100 * wholeMs else value

    /** As it was asked for: `75%` or `12.5ms`. */
    override fun toString(): String = text

    public companion object {
        private fun refuse(text: String): Nothing = throw BudgetException(
            "${quote(text)} is no latency budget: write it like 75% (of the whole network's) or 12.5ms",
        )

        /** So many milliseconds. Throws [BudgetException] for what is no positive number. */
        @JvmStatic
        public fun milliseconds(value: Double): Budget = Budget("${value}ms", value, isShare = false)

        /** So many percent of what the whole network took. Throws [BudgetException] for what is no positive number. */
        @JvmStatic
        public fun percent(value: Double): Budget = Budget("$value%", value, isShare = true)

        /** `75%` or `12.5ms`, as on the command line. Throws [BudgetException] for anything else. */
        @JvmStatic
        public fun parse(text: String): Budget {
            val match = WRITTEN.matchEntire(text.trim()) ?: refuse(text)
            return Budget(text.trim(), match.groupValues[1].toDouble(), match.groupValues[2] == "%")
        }
    }
}

/** A budget of so many milliseconds. */
public val Int.milliseconds: Budget get() = Budget.milliseconds(toDouble())

/** A budget of so many milliseconds. */
public val Double.milliseconds: Budget get() = Budget.milliseconds(this)

/** A budget of so many percent of what the whole network took. */
public val Int.percent: Budget get() = Budget.percent(toDouble())

/** A budget of so many percent of what the whole network took. */
public val Double.percent: Budget get() = Budget.percent(this)
