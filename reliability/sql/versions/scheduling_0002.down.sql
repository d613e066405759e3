-- CASCADE drops the triggers that call them, too.
DROP FUNCTION
    backstop_defer_routine,
    backstop_insert_ping,
    backstop_run_cron
CASCADE;
