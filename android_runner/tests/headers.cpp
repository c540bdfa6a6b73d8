// Has the headers that the tests share compiled; does nothing.
int main() {}
