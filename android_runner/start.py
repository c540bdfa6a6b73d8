"""How `adaptivenet-runner` begins."""

from adaptivenet.toolkit.cli.start import command

main = command("adaptivenet.android_runner.cli")
