// SPDX-License-Identifier: BSD-2-Clause
/* What the start row puts a uprobe on: its first byte tells when. */
int target(int number)
{
	return number + 1;
}
