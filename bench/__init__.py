"""The benchmarks. Figures are ratios within one run: absolute rates say more about the machine than about the code."""
