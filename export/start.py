"""How `adaptivenet-export` begins."""

from adaptivenet.toolkit.cli.start import command

main = command("adaptivenet.export.cli")
