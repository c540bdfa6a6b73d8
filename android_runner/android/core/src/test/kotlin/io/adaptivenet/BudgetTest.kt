package io.adaptivenet

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

/** What an app writes down: budgets and options. */
class BudgetTest {
    @Test
    fun budgetsAreMillisecondsOrShares() {
        assertEquals(12.0, 12.milliseconds.ms(40.0))
        assertEquals(30.0, 75.percent.ms(40.0))
        assertEquals(30.0, Budget.parse(" 75% ").ms(40.0))
        assertEquals(12.5, Budget.parse("12.5 ms").ms(40.0))
        assertEquals("12.5ms", 12.5.milliseconds.toString())
    }

    @Test
    fun otherBudgetsAreRefused() {
        for (text in listOf("", "75", "ms", "-1ms", "0%", "1e3ms", "12 s", "1ms\n2ms", "٣ms")) {
            val error = assertThrows<BudgetException>(text) { Budget.parse(text) }
            assertEquals(false, '\n' in error.message.orEmpty())
        }
        for (value in listOf(0.0, -1.0, Double.NaN, Double.POSITIVE_INFINITY)) {
            assertThrows<BudgetException> { Budget.milliseconds(value) }
            assertThrows<BudgetException> { value.percent }
        }
    }

    @Test
    fun optionsFromJavaAreThoseOfKotlin() {
        val built = Options.Builder().budget(50.percent).percentile(95.0).memoryMb(40.0).threads(2).build()
        assertEquals(listOf(95.0, 40.0, null), listOf(built.percentile, built.memoryMb, built.energyMj))
        assertEquals(2, built.threads)
        assertEquals(20.0, built.budget.ms(40.0))
        assertThrows<IllegalArgumentException> { Options(threads = 0) }
    }
}
