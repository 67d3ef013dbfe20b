%% The interop checks over gen_tcp: erl -noshell -run checks main HOST PORT PREFIX
-module(checks).
-export([main/1]).

main([Host, Port, Prefix]) ->
    ok = io:setopts([{encoding, unicode}]),
    io:format("LIBRARY gen_tcp OTP ~s~n", [erlang:system_info(otp_release)]),
    Broker = {Host, list_to_integer(Port), Prefix},
    {Connection, Connected} = connect(Broker),
    io:format("PROTOCOL ~s~n", [stomp:header("version", Connected)]),
    stomp:close(Connection),
    [run(Name, Check, Broker) || {Name, Check} <- [
        {send_receive, fun send_receive/1}, {receipt, fun receipt/1}, {commit, fun commit/1}, {abort, fun abort/1},
        {ack_nack_individual, fun ack_nack_individual/1}, {durable_subscription, fun durable_subscription/1},
        {heart_beats, fun heart_beats/1}, {binary_body, fun binary_body/1}, {body_8mib, fun body_8mib/1},
        {utf8_headers, fun utf8_headers/1}, {bad_destination, fun bad_destination/1},
        {request_reply, fun request_reply/1}]],
    halt().

run(Name, Check, Broker) ->
    try Check(Broker) of
        _ -> io:format("PASS ~s~n", [Name])
    catch
        Class:Reason -> io:format("FAIL ~s: ~ts~n", [Name, one_line(io_lib:format("~p ~tP", [Class, Reason, 12]))])
    end.

one_line(Text) -> [case C of $\n -> $\s; _ -> C end || C <- lists:flatten(Text)].

connect({Host, Port, _}) -> stomp:connect(Host, Port).

queue({_, _, Prefix}, Check) -> "/queue/" ++ Prefix ++ "." ++ Check.

%% A connection subscribed to the queue of `Check', and that queue.
subscribed(Broker, Check, Headers) ->
    {C0, _} = connect(Broker),
    Queue = queue(Broker, Check),
    stomp:subscribe(C0, Queue, Headers),
    {C0, Queue}.

%% The next message must have this body; a mismatch is a `badmatch' that shows both.
expect(Body, Connection) ->
    {After, Message} = stomp:message(Connection),
    {Body, expected, Body} = {stomp:body(Message), expected, Body},
    {After, Message}.

send_receive(Broker) ->
    {C0, Queue} = subscribed(Broker, "send_receive", []),
    stomp:send(C0, Queue, [{"kind", "greeting"}], <<"hello">>),
    {C1, Message} = expect(<<"hello">>, C0),
    "greeting" = stomp:header("kind", Message),
    stomp:close(C1).

receipt(Broker) ->
    {C0, _} = connect(Broker),
    stomp:send(C0, queue(Broker, "receipt"), [{"receipt", "order-4711"}], <<"important">>),
    {C1, Receipt} = stomp:await("RECEIPT", C0),
    "order-4711" = stomp:header("receipt-id", Receipt),
    stomp:close(C1).

commit(Broker) ->
    {C0, Queue} = subscribed(Broker, "commit", []),
    stomp:write(C0, "BEGIN", [{"transaction", "t1"}], <<>>),
    stomp:send(C0, Queue, [{"transaction", "t1"}], <<"first">>),
    stomp:send(C0, Queue, [{"transaction", "t1"}], <<"second">>),
    stomp:send(C0, Queue, [], <<"outside">>),
    {C1, _} = expect(<<"outside">>, C0),
    stomp:write(C1, "COMMIT", [{"transaction", "t1"}], <<>>),
    {C2, _} = expect(<<"first">>, C1),
    {C3, _} = expect(<<"second">>, C2),
    stomp:close(C3).

abort(Broker) ->
    {C0, Queue} = subscribed(Broker, "abort", []),
    stomp:write(C0, "BEGIN", [{"transaction", "t1"}], <<>>),
    stomp:send(C0, Queue, [{"transaction", "t1"}], <<"never seen">>),
    stomp:write(C0, "ABORT", [{"transaction", "t1"}], <<>>),
    stomp:send(C0, Queue, [], <<"after">>),
    {C1, _} = expect(<<"after">>, C0),
    stomp:close(C1).

ack_nack_individual(Broker) ->
    {C0, Queue} = subscribed(Broker, "ack_nack_individual", [{"ack", "client-individual"}]),
    stomp:send(C0, Queue, [], <<"nacked">>),
    stomp:send(C0, Queue, [], <<"acked">>),
    {C1, Nacked} = expect(<<"nacked">>, C0),
    {C2, Acked} = expect(<<"acked">>, C1),
    stomp:settle(C2, "ACK", Acked),
    stomp:settle(C2, "NACK", Nacked),
    {C3, Again} = expect(<<"nacked">>, C2),
    "true" = stomp:header("redelivered", Again),
    stomp:settle(C3, "ACK", Again),
    stomp:close(C3),
    %% Nothing may be left: a new consumer sees only what is sent from now on.
    {C4, Queue} = subscribed(Broker, "ack_nack_individual", []),
    stomp:send(C4, Queue, [], <<"end">>),
    {C5, _} = expect(<<"end">>, C4),
    stomp:close(C5).

durable_subscription({_, _, Prefix} = Broker) ->
    Topic = "/topic/" ++ Prefix ++ ".news",
    Durable = [{"id", Prefix ++ "-reader"}, {"durable", "true"}],
    Publish = fun(Body) ->
        {P0, _} = connect(Broker),
        stomp:send(P0, Topic, [], Body),
        stomp:close(P0)
    end,
    {C0, _} = connect(Broker),
    stomp:subscribe(C0, Topic, Durable),
    stomp:close(C0),
    Publish(<<"while away">>),
    {C1, _} = connect(Broker),
    stomp:subscribe(C1, Topic, Durable),
    {C2, _} = expect(<<"while away">>, C1),
    C3 = stomp:receipt(C2, "UNSUBSCRIBE", Durable),
    stomp:close(C3),
    Publish(<<"after the end">>),
    {C4, _} = connect(Broker),
    stomp:subscribe(C4, Topic, Durable),
    stomp:send(C4, Topic, [], <<"new">>),
    {C5, _} = expect(<<"new">>, C4),
    C6 = stomp:receipt(C5, "UNSUBSCRIBE", Durable),
    stomp:close(C6).

%% Beats once a second for three seconds, and must hear the broker do the same.
heart_beats({Host, Port, _} = Broker) ->
    {C0, Connected} = stomp:connect(Host, Port, [{"heart-beat", "1000,1000"}]),
    [_, _] = [list_to_integer(Part) || Part <- string:split(stomp:header("heart-beat", Connected), ","), Part =/= "0"],
    {ok, Timer} = timer:apply_interval(900, gen_tcp, send, [maps:get(socket, C0), <<"\n">>]),
    Queue = queue(Broker, "heart_beats"),
    %% The first line end may be the one that follows CONNECTED.
    C1 = lists:foldl(fun(_, C) -> {After, heart_beat} = stomp:next(C), After end, C0, lists:seq(1, 5)),
    stomp:subscribe(C1, Queue, []),
    stomp:send(C1, Queue, [], <<"still here">>),
    {C2, _} = expect(<<"still here">>, C1),
    timer:cancel(Timer),
    stomp:close(C2).

every_byte() -> binary:copy(list_to_binary(lists:seq(0, 255)), 4).

binary_body(Broker) -> echo(Broker, "binary_body", every_byte()).

body_8mib(Broker) -> echo(Broker, "body_8mib", binary:copy(every_byte(), 8192)).

echo(Broker, Check, Body) ->
    {C0, Queue} = subscribed(Broker, Check, []),
    stomp:send(C0, Queue, [{"content-type", "application/octet-stream"}], Body),
    {C1, Message} = stomp:message(C0),
    true = stomp:body(Message) =:= Body,
    stomp:close(C1).

utf8_headers(Broker) ->
    Note = [16#47, 16#72, 16#fc, 16#df, $e, $:, $\s, 16#6f22, 16#5b57, $\n, $b, $a, $c, $k, $\\, $s],
    {C0, Queue} = subscribed(Broker, "utf8_headers", []),
    stomp:send(C0, Queue, [{"note", Note}], <<"see header">>),
    {C1, Message} = stomp:message(C0),
    Note = stomp:header("note", Message),
    stomp:close(C1).

bad_destination(Broker) ->
    {C0, _} = connect(Broker),
    stomp:send(C0, "/nowhere/at-all", [{"receipt", "lost-1"}], <<"lost">>),
    {C1, Error} = stomp:await("ERROR", C0),
    Text = stomp:header("message", Error) ++ unicode:characters_to_list(stomp:body(Error)),
    [true, true] = [string:find(Text, Kind) =/= nomatch || Kind <- ["/queue", "/topic"]],
    {"lost-1", receipt_id} = {stomp:header("receipt-id", Error), receipt_id},
    gen_tcp:close(maps:get(socket, C1)).

request_reply(Broker) ->
    {Server0, Queue} = subscribed(Broker, "request_reply", []),
    {Client0, _} = connect(Broker),
    stomp:send(Client0, Queue, [{"reply-to", "/temp-queue/answers"}, {"correlation-id", "q1"}], <<"question">>),
    {Server1, Question} = expect(<<"question">>, Server0),
    stomp:send(Server1, stomp:header("reply-to", Question),
               [{"correlation-id", stomp:header("correlation-id", Question)}], <<"answer">>),
    {Client1, Answer} = expect(<<"answer">>, Client0),
    "q1" = stomp:header("correlation-id", Answer),
    "/temp-queue/answers" = stomp:header("subscription", Answer),
    stomp:close(Server1),
    stomp:close(Client1).
