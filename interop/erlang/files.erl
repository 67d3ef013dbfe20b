%% Files as messages, for the exchange between languages:
%%   erl -noshell -run files send HOST PORT DESTINATION FILE...
%%   erl -noshell -run files receive_into HOST PORT DESTINATION DIRECTORY COUNT
-module(files).
-export([send/1, receive_into/1]).

send([Host, Port, Destination | Files]) ->
    {Connection, _} = stomp:connect(Host, list_to_integer(Port)),
    Sent = lists:foldl(fun(File, C0) ->
        {ok, Body} = file:read_file(File),
        Name = filename:basename(File),
        stomp:send(C0, Destination, [{"name", Name}, {"receipt", Name}], Body),
        {C1, Receipt} = stomp:await("RECEIPT", C0),
        Name = stomp:header("receipt-id", Receipt),
        C1
    end, Connection, Files),
    stomp:close(Sent),
    halt().

receive_into([Host, Port, Destination, Directory, Count]) ->
    {Connection, _} = stomp:connect(Host, list_to_integer(Port)),
    stomp:subscribe(Connection, Destination, [{"ack", "client-individual"}]),
    Received = lists:foldl(fun(_, C0) ->
        {C1, Message} = stomp:message(C0),
        File = filename:join(Directory, filename:basename(stomp:header("name", Message))),
        ok = file:write_file(File, stomp:body(Message)),
        %% Acknowledged only now: had the write failed, the message would still be in the queue.
        stomp:settle(C1, "ACK", Message),
        C1
    end, Connection, lists:seq(1, list_to_integer(Count))),
    stomp:close(Received),
    halt().
